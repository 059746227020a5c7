const stage = document.querySelector("#stage"), result = document.querySelector("#result");
const form = document.querySelector("form"), error = document.querySelector(".error");
const button = form.querySelector("button"), input = form.elements.image;
let image = null;  // the chosen file
let preview = "";

function show(message) {
  error.textContent = message;
  error.hidden = !message;
}

function choose(file) {
  image = file;
  URL.revokeObjectURL(preview);
  preview = URL.createObjectURL(file);
  const frame = document.createElement("div"), element = document.createElement("img");
  frame.className = "frame";
  element.src = preview;
  element.alt = "the chosen image";
  frame.append(element);
  stage.replaceChildren(frame);
  result.replaceChildren();
  show("");
}

async function detect() {
  const sent = image, caption = form.elements.caption.value;
  if (!sent) return show("Choose an image first.");
  if (!caption.trim()) return show("Type a caption first.");
  if (sent.size > Number(input.dataset.maxBytes)) return show("The file is too large.");
  const query = new URLSearchParams({caption, threshold: form.elements.threshold.value});
  const response = await fetch(`/ground?${query}`, {method: "POST", body: sent});
  const text = await response.text();
  if (sent !== image) return;  // another image was chosen in the meantime
  show(response.ok ? "" : text);
  result.replaceChildren();
  if (!response.ok) return;
  const answer = document.createElement("template");
  answer.innerHTML = text;  // the server escapes captions
  stage.replaceChildren(answer.content.querySelector(".frame"));
  result.append(answer.content);
}

form.addEventListener("submit", async event => {
  event.preventDefault();
  button.disabled = true;
  try {
    await detect();
  } catch (failure) {
    show(`The server does not answer: ${failure.message}`);
  } finally {
    button.disabled = false;
  }
});
form.elements.caption.addEventListener("keydown", event => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (!button.disabled) form.requestSubmit();
});
input.addEventListener("change", () => {
  if (input.files.length) choose(input.files[0]);
  input.value = "";  // so that the same file can be chosen again
});
addEventListener("dragover", event => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
addEventListener("dragleave", event => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
addEventListener("drop", event => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  const [file] = event.dataTransfer.files;
  if (file) choose(file);
});
for (const example of document.querySelectorAll(".example")) {
  example.addEventListener("click", async () => {
    const response = await fetch(`/example/${example.value}`);
    if (!response.ok) return show(await response.text());
    choose(await response.blob());
    form.elements.caption.focus();
  });
}
