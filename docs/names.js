// The theme's search dialog has no name, which a screen reader would read out.
document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
