"use strict";

// The "try it" forms: send what is filled in, and show the answer.

async function send(form) {
  const headers = { Accept: "application/json" };
  const query = new URLSearchParams();
  const data = new FormData();
  let path = form.dataset.path;
  for (const input of form.querySelectorAll("input[data-in]")) {
    const name = input.dataset.name;
    if (input.dataset.in === "path") {
      path = path.replace(`{${name}}`, encodeURIComponent(input.value));
    } else if (input.value !== "") {
      if (input.dataset.in === "query") query.append(name, input.value);
      else if (input.files) for (const file of input.files) data.append(name, file);
      else if (input.dataset.in === "form") data.append(name, input.value);
      else headers[name] = input.value;
    }
  }
  const options = { method: form.dataset.method, headers };
  const body = form.querySelector("textarea");
  if (body && body.value.trim() !== "") {
    headers["Content-Type"] = "application/json";
    options.body = body.value;
  }
  if (form.querySelector("input[data-in=form]")) options.body = data;
  const search = query.toString();
  const address = document.body.dataset.base + path + (search ? `?${search}` : "");
  const began = performance.now();
  const answer = await fetch(address, options);
  const text = await answer.text();
  const took = Math.round(performance.now() - began);
  return { summary: `${options.method} ${address}: status ${answer.status}, after ${took} ms`, text: pretty(text) };
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text || "(an empty body)";
  }
}

for (const form of document.querySelectorAll("form[data-path]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const shown = form.querySelector(".answer");
    let result;
    try {
      result = await send(form);
    } catch (error) {
      result = { summary: "There was no answer.", text: String(error) };
    }
    shown.querySelector("p").textContent = result.summary;
    shown.querySelector("pre").textContent = result.text;
    shown.hidden = false;
  });
}
