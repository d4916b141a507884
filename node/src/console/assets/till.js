// Adds up what is typed and adds lines without asking the till's program. Selling works without this file; the program
// reckons every amount itself.
"use strict";
(() => {
  const form = document.querySelector("[data-register]");
  if (!form) return;
  const digits = Number(form.dataset.digits), total = form.querySelector("#total"), change = form.querySelector("#change");
  const number = (text) => { const it = Number(text.trim().replace(",", ".")); return text.trim() === "" || !Number.isFinite(it) ? null : it; };
  const money = (value) => new Intl.NumberFormat("en-GB", { style: "currency", currency: form.dataset.currency }).format(value);
  const round = (value) => Math.round(value * 10 ** digits + Math.sign(value) * 1e-6) / 10 ** digits;

  function add() {
    let sum = 0, some = false;
    for (const line of form.querySelectorAll("[data-line]")) {
      const price = number(line.querySelector("[name=price]").value);
      const quantity = number(line.querySelector("[name=quantity]").value) ?? 1;
      if (price !== null) { sum += round(price * quantity); some = true; }
    }
    total.value = some ? money(sum) : "–";
    const given = number(form.querySelector("#given").value);
    change.value = some && given !== null && given >= sum ? money(given - sum) : "–";
  }

  form.addEventListener("input", add);
  form.querySelector("[value=line]").addEventListener("click", (event) => {
    event.preventDefault();
    const lines = form.querySelectorAll("[data-line]"), last = lines[lines.length - 1], copy = last.cloneNode(true);
    for (const input of copy.querySelectorAll("input")) {
      const name = `${input.name}-${lines.length}`;
      copy.querySelector(`label[for="${input.id}"]`).htmlFor = name;
      input.id = name;
      if (input.name !== "rate") input.value = "";
    }
    last.after(copy);
    copy.querySelector("input").focus();
  });
  // Enter goes to the next field, as on a register; money is taken by its own key.
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.target.tagName !== "INPUT") return;
    event.preventDefault();
    const inputs = [...form.querySelectorAll("input:not([type=hidden]), .pay button")];
    inputs[Math.min(inputs.indexOf(event.target) + 1, inputs.length - 1)].focus();
  });
  add();
})();
