"use strict";
{
  const data = JSON.parse(document.getElementById("data").textContent);
  const tip = document.getElementById("tip");

  // Values of marks, for pointer and keyboard.
  let current = null;
  const show = (mark) => {
    current = mark;
    tip.textContent = mark.dataset.value;
    tip.hidden = false;
    const at = mark.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const left = Math.min(Math.max(8, at.left + at.width / 2 - own.width / 2), innerWidth - own.width - 8);
    const above = at.top - own.height - 6;
    tip.style.left = `${left}px`;
    tip.style.top = `${above < 8 ? at.bottom + 6 : above}px`;
  };
  const hide = () => {
    current = null;
    tip.hidden = true;
  };
  for (const mark of document.querySelectorAll(".valued")) {
    mark.addEventListener("pointerenter", () => show(mark));
    mark.addEventListener("pointerleave", hide);
    mark.addEventListener("focus", () => show(mark));
    mark.addEventListener("blur", hide);
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  // Focus scrolls to its mark: the value goes with it.
  document.addEventListener("scroll", () => { if (current) show(current); }, { passive: true, capture: true });

  // Lines to paste.
  for (const button of document.querySelectorAll("button.copy")) {
    button.hidden = false;
    const said = button.firstChild;
    button.addEventListener("click", async () => {
      const code = button.closest(".paste").querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
        said.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code);
        said.textContent = "Selected";
      }
      setTimeout(() => { said.textContent = "Copy"; }, 2000);
    });
  }

  // The table of what a context and a power mode change.
  const form = document.querySelector("form.choices");
  if (form) {
    const bytes = (value) => {
      const sign = value < 0 ? "\u2212" : "", size = Math.abs(value);
      if (size >= 2 ** 30) return `${sign}${(size / 2 ** 30).toFixed(2)} GiB`;
      if (size >= 2 ** 20) return `${sign}${(size / 2 ** 20).toFixed(1)} MiB`;
      return size >= 1024 ? `${sign}${(size / 1024).toFixed(1)} KiB` : `${sign}${size} B`;
    };
    const rate = (value) => value < 9.95 ? value.toFixed(1) : value.toFixed(0);
    const range = (low, high) => rate(low) === rate(high) ? rate(low) : `${rate(low)}\u2013${rate(high)}`;
    const { curves, plans } = data;
    const slider = form.querySelector("#context-choice"), mode = form.querySelector("#mode-choice");
    const rows = document.querySelectorAll("#choices-table tbody tr");
    const update = () => {
      const at = Number(slider.value), context = curves.context_tokens[at];
      const named = `${context} tokens`;
      form.querySelector("#context-shown").textContent = named;
      slider.setAttribute("aria-valuetext", named);
      curves.plans.forEach((curve, index) => {
        const cells = rows[index].querySelectorAll("td");
        const needed = curve.total_bytes[at], left = plans[index].memory.available_bytes - needed;
        const rates = mode && curve.decode_tokens_per_second[mode.value];
        cells[0].textContent = bytes(needed);
        const fits = curve.fits[at];
        cells[1].textContent = left >= 0 && !fits ? "refused" : bytes(left);
        cells[2].textContent = rates ? range(rates.low[at], rates.high[at]) : "\u2013";
        rows[index].classList.toggle("out", !fits);
      });
      for (const figure of document.querySelectorAll("svg[data-cursor]")) {
        const [kind, ...ends] = figure.dataset.cursor.split(" ");
        const [low, high, from, to] = ends.map(Number);
        const share = kind === "log" ? Math.log(context / low) / Math.log(high / low) : (context - low) / (high - low);
        const line = figure.querySelector(".cursor");
        line.setAttribute("transform", `translate(${from + Math.min(1, Math.max(0, share)) * (to - from)} 0)`);
        line.style.visibility = "visible";
      }
    };
    form.hidden = false;
    form.addEventListener("input", update);
    form.addEventListener("submit", (event) => event.preventDefault());
    update();
  }
}
