"use strict";
(() => {
  const make = (tag, text, attributes = {}) => {
    const node = Object.assign(document.createElement(tag), { textContent: text });
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  document.documentElement.classList.add("scripted");

  // Light or dark theme: the system's setting, until the reader presses the button.
  const root = document.documentElement;
  const dark = () => getComputedStyle(root).colorScheme === "dark" ||
    (!root.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  const theme = make("button", "", { id: "theme", type: "button" });
  const setThemeLabel = () => { theme.textContent = dark() ? "Light" : "Dark"; };
  const storedTheme = (value) => {
    try { return value ? localStorage.setItem("mmdistill-theme", value) : localStorage.getItem("mmdistill-theme"); }
    catch { return null; }
  };
  if (storedTheme()) root.dataset.theme = storedTheme();
  theme.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    storedTheme(root.dataset.theme);
    setThemeLabel();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", setThemeLabel);
  setThemeLabel();
  document.querySelector("nav").append(theme);

  // Views: one is shown at a time; buttons for up to three, a list for more.
  for (const views of all(".views")) {
    const children = all(":scope > .view", views);
    if (children.length < 2) continue;
    const few = children.length <= 3 && children.map((view) => view.dataset.view).join("").length < 50;
    const bar = make("div", "", { class: "switch" });
    const buttons = [];
    const select = make("select", "");
    const show = (chosen) => {
      children.forEach((view, index) => { view.hidden = index !== chosen; });
      buttons.forEach((button, index) => button.setAttribute("aria-pressed", index === chosen));
      select.selectedIndex = chosen;
    };
    children.forEach((view, index) => {
      view.reveal = () => show(index);
      if (few) {
        const button = make("button", view.dataset.view, { type: "button" });
        button.addEventListener("click", () => show(index));
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

  // Tables: pressing a column's head sorts by it; numbers in descending order first, text in ascending order.
  for (const table of all("table.sortable")) {
    const body = table.tBodies[0];
    all("thead th", table).forEach((head, column) => {
      const button = make("button", head.textContent, { type: "button" });
      if (head.title) button.title = head.title;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const isText = head.classList.contains("text");
        const before = head.getAttribute("aria-sort");
        const ascending = before ? before === "descending" : isText;
        all("thead th", table).forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].firstChild.textContent;
        const number = (row) => (key(row) === "" ? NaN : Number(String(key(row)).replace(/,/g, "")));
        const rows = [...body.rows].sort((one, other) => {
          if (isText) {
            const order = one.cells[column].textContent.localeCompare(other.cells[column].textContent, "en", { numeric: true });
            return ascending ? order : -order;
          }
          const [a, b] = [number(one), number(other)];
          if (isNaN(a) || isNaN(b)) return isNaN(a) - isNaN(b); // unknown values come last
          return ascending ? a - b : b - a;
        });
        body.append(...rows);
      });
    });
  }

  // Long tables can be searched by sequence name. All views of a table share one search field.
  for (const container of all(".views, .scrolling")) {
    if (container.parentElement.closest(".views")) continue;
    const rows = all("table.filtered", container).map((table) => [...table.tBodies[0].rows]);
    if (!rows.some((each) => each.length >= 20)) continue;
    const field = make("input", "", { type: "search", placeholder: "Find a sequence", "aria-label": "Find a sequence" });
    field.addEventListener("input", () => {
      for (const row of rows.flat()) {
        row.hidden = !row.cells[0].textContent.toLowerCase().includes(field.value.toLowerCase());
      }
    });
    container.before(field);
  }

  // Charts: the pointer or the arrow keys select a position; the legend shows the values there.
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
    const show = (index, announce = false) => {
      chosen = Math.max(0, Math.min(labels.length - 1, index));
      figure.classList.add("reading");
      const share = bars ? (chosen + 0.5) / labels.length : left + (right - left) * (chosen / (labels.length - 1));
      cursor.setAttribute("x1", share * box.width);
      cursor.setAttribute("x2", share * box.width);
      head.textContent = labels[chosen];
      values.forEach((value, number) => { value.textContent = series[number][chosen]; });
      if (announce) {
        const names = values.map((value) => `${value.previousElementSibling.textContent} ${value.textContent}`);
        figure.querySelector("output").textContent = `${labels[chosen]}: ${names.join(", ")}`;
      }
    };
    const leave = () => {
      chosen = null;
      figure.classList.remove("reading");
      head.textContent = head.dataset.default;
      for (const value of values) value.textContent = value.dataset.default;
    };
    drawing.addEventListener("pointermove", (event) => {
      const area = drawing.getBoundingClientRect();
      const share = ((event.clientX - area.left) / area.width - left) / (right - left);
      show(bars ? Math.floor(share * labels.length) : Math.round(share * (labels.length - 1)));
    });
    drawing.addEventListener("pointerleave", leave);
    drawing.addEventListener("blur", leave);
    drawing.addEventListener("keydown", (event) => {
      const from = chosen ?? -1;
      const positions = {
        ArrowRight: from + 1,
        ArrowLeft: chosen === null ? labels.length - 1 : from - 1,
        Home: 0,
        End: labels.length - 1,
      };
      if (event.key === "Escape") leave();
      if (!(event.key in positions)) return;
      event.preventDefault();
      show(positions[event.key], true);
    });
  }

  // The pointer on a legend entry highlights its curve.
  for (const plot of all(".plot")) {
    for (const entry of all(".legend li", plot)) {
      const curve = plot.querySelector(`g[data-tracker="${entry.dataset.tracker}"]`);
      entry.classList.add("lights");
      entry.addEventListener("pointerenter", () => curve.classList.add("lit"));
      entry.addEventListener("pointerleave", () => curve.classList.remove("lit"));
    }
  }
})();
