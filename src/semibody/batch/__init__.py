"""Many clips: what is to be made (``jobs``), one after another (``work``), by several workers (``many``), on
a cluster (``cluster``)."""
