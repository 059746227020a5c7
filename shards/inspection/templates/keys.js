addEventListener("keydown", event => {
  const rel = {ArrowLeft: "prev", ArrowRight: "next"}[event.key];
  const link = rel && document.querySelector(`a[rel=${rel}]`);
  const other = event.altKey || event.ctrlKey || event.metaKey || event.shiftKey;
  const scroll = event.target.closest(".scroll");  // the arrow keys scroll it
  const taken = scroll && scroll.scrollWidth > scroll.clientWidth;
  if (link && !other && !taken && !event.target.matches("input, select")) link.click();
});
