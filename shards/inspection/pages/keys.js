addEventListener("keydown", event => {
  const rel = {ArrowLeft: "prev", ArrowRight: "next"}[event.key];
  const link = rel && document.querySelector(`a[rel=${rel}]`);
  const other = event.altKey || event.ctrlKey || event.metaKey || event.shiftKey;
  if (link && !other && !event.target.matches("input, select")) link.click();
});
