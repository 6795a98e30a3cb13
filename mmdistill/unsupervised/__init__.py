from mmdistill.unsupervised.bbe import BBEDistiller
from mmdistill.unsupervised.tcl import TCLDistiller
