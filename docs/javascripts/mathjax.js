// What arithmatex marks as a formula is MathJax's; nothing else on the page is looked at.
window.MathJax = {
  tex: { inlineMath: [["\\(", "\\)"]], displayMath: [["\\[", "\\]"]] },
  options: { ignoreHtmlClass: ".*|", processHtmlClass: "arithmatex" },
};

// Pages that are loaded without a reload have formulas too.
document$.subscribe(() => {
  if (MathJax.typesetPromise) {
    MathJax.typesetPromise();
  }
});
