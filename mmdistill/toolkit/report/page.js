"use strict";
(() => {
  const make = (tag, text, attributes = {}) => {
    const node = Object.assign(document.createElement(tag), { textContent: text });
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  document.documentElement.classList.add("scripted");

  // Light or dark: the system's choice until the reader makes one.
  const root = document.documentElement;
  const dark = () => getComputedStyle(root).colorScheme === "dark" ||
    (!root.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  const theme = make("button", "", { id: "theme", type: "button" });
  const named = () => { theme.textContent = dark() ? "Light" : "Dark"; };
  const remembered = (value) => {
    try { return value ? localStorage.setItem("mmdistill-theme", value) : localStorage.getItem("mmdistill-theme"); }
    catch { return null; }
  };
  if (remembered()) root.dataset.theme = remembered();
  theme.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    remembered(root.dataset.theme);
    named();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", named);
  named();
  document.querySelector("nav").append(theme);

  // Of several views one is shown: buttons for a few, a list for many.
  for (const views of all(".views")) {
    const children = all(":scope > .view", views);
    if (children.length < 2) continue;
    const few = children.length <= 3 && children.map((view) => view.dataset.view).join("").length < 50;
    const bar = make("div", "", { class: "switch" });
    const buttons = [];
    const select = make("select", "");
    const show = (chosen) => {
      children.forEach((view, place) => { view.hidden = place !== chosen; });
      buttons.forEach((button, place) => button.setAttribute("aria-pressed", place === chosen));
      select.selectedIndex = chosen;
    };
    children.forEach((view, place) => {
      view.reveal = () => show(place);
      if (few) {
        const button = make("button", view.dataset.view, { type: "button" });
        button.addEventListener("click", () => show(place));
        buttons.push(button);
      } else {
        select.append(make("option", view.dataset.view));
      }
    });
    if (few) {
      bar.append(...buttons);
      bar.setAttribute("role", "group");
      bar.setAttribute("aria-label", views.dataset.label);
    } else {
      const label = make("label", `${views.dataset.label} `);
      label.append(select);
      bar.append(label);
      select.addEventListener("change", () => show(select.selectedIndex));
    }
    views.prepend(bar);
    show(0);
  }
  const reveal = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    const hidden = target && target.closest(".view[hidden]");
    if (hidden) {
      hidden.reveal();
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", reveal);
  reveal();

  // Tables are sorted by the column whose head is pressed: figures downwards first, words upwards.
  for (const table of all("table.sortable")) {
    const body = table.tBodies[0];
    all("thead th", table).forEach((head, place) => {
      const button = make("button", head.textContent, { type: "button" });
      if (head.title) button.title = head.title;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const words = head.classList.contains("words");
        const before = head.getAttribute("aria-sort");
        const upwards = before ? before === "descending" : words;
        all("thead th", table).forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", upwards ? "ascending" : "descending");
        const key = (row) => row.cells[place].dataset.sort ?? row.cells[place].firstChild.textContent;
        const number = (row) => (key(row) === "" ? NaN : Number(String(key(row)).replace(/,/g, "")));
        const rows = [...body.rows].sort((one, other) => {
          if (words) {
            const order = one.cells[place].textContent.localeCompare(other.cells[place].textContent, "en", { numeric: true });
            return upwards ? order : -order;
          }
          const [a, b] = [number(one), number(other)];
          if (isNaN(a) || isNaN(b)) return isNaN(a) - isNaN(b); // what is not known comes last
          return upwards ? a - b : b - a;
        });
        body.append(...rows);
      });
    });
  }

  // Tables of many rows can be searched by name; one field serves all views of a table, so that its text stays.
  for (const place of all(".views, .scrolling")) {
    if (place.parentElement.closest(".views")) continue;
    const rows = all("table.filtered", place).map((table) => [...table.tBodies[0].rows]);
    if (!rows.some((each) => each.length >= 20)) continue;
    const field = make("input", "", { type: "search", placeholder: "Find a sequence", "aria-label": "Find a sequence" });
    field.addEventListener("input", () => {
      for (const row of rows.flat()) {
        row.hidden = !row.cells[0].textContent.toLowerCase().includes(field.value.toLowerCase());
      }
    });
    place.before(field);
  }

  // Charts: the pointer or the arrow keys choose a place, whose values stand in the legend.
  for (const figure of all(".chart")) {
    const drawing = figure.querySelector(".drawing");
    const labels = drawing.dataset.labels.split("\n");
    const values = all(".value", figure);
    const series = values.map((value) => value.dataset.values.split(" "));
    const head = figure.querySelector(".at");
    const cursor = figure.querySelector(".cursor");
    const box = drawing.viewBox.baseVal;
    const bars = "bars" in drawing.dataset;
    const left = bars ? 0 : Number(drawing.dataset.left);
    const right = bars ? 1 : Number(drawing.dataset.right);
    let chosen = null;
    const show = (place, aloud = false) => {
      chosen = Math.max(0, Math.min(labels.length - 1, place));
      figure.classList.add("reading");
      const share = bars ? (chosen + 0.5) / labels.length : left + (right - left) * (chosen / (labels.length - 1));
      cursor.setAttribute("x1", share * box.width);
      cursor.setAttribute("x2", share * box.width);
      head.textContent = labels[chosen];
      values.forEach((value, number) => { value.textContent = series[number][chosen]; });
      if (aloud) {
        const names = values.map((value) => `${value.previousElementSibling.textContent} ${value.textContent}`);
        figure.querySelector("output").textContent = `${labels[chosen]}: ${names.join(", ")}`;
      }
    };
    const leave = () => {
      chosen = null;
      figure.classList.remove("reading");
      head.textContent = head.dataset.figure;
      for (const value of values) value.textContent = value.dataset.figure;
    };
    drawing.addEventListener("pointermove", (event) => {
      const place = drawing.getBoundingClientRect();
      const share = ((event.clientX - place.left) / place.width - left) / (right - left);
      show(bars ? Math.floor(share * labels.length) : Math.round(share * (labels.length - 1)));
    });
    drawing.addEventListener("pointerleave", leave);
    drawing.addEventListener("blur", leave);
    drawing.addEventListener("keydown", (event) => {
      const from = chosen ?? -1;
      const places = {
        ArrowRight: from + 1,
        ArrowLeft: chosen === null ? labels.length - 1 : from - 1,
        Home: 0,
        End: labels.length - 1,
      };
      if (event.key === "Escape") leave();
      if (!(event.key in places)) return;
      event.preventDefault();
      show(places[event.key], true);
    });
  }

  // A legend's entry under the pointer brings its curve out.
  for (const plot of all(".plot")) {
    for (const entry of all(".legend li", plot)) {
      const curve = plot.querySelector(`g[data-tracker="${entry.dataset.tracker}"]`);
      entry.classList.add("lights");
      entry.addEventListener("pointerenter", () => curve.classList.add("lit"));
      entry.addEventListener("pointerleave", () => curve.classList.remove("lit"));
    }
  }
})();
