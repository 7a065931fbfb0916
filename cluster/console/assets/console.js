// Turns what a person does into one kind of message, asks before anything is changed, and says so when the line is cut.
(() => {
  const BEAT_MS = 6000;
  const send = (fields) => window.emitEvent("console", fields);
  const remember = (name, value) => {
    document.cookie = `partage_${name}=${value};path=/;max-age=31536000;samesite=strict`;
  };
  const fieldsOf = (form) => Object.fromEntries(new FormData(form).entries());
  const byId = (id) => document.getElementById(id);

  function ask(el) {
    const box = byId("dialog");
    const fields = byId("dialog-fields");
    byId("dialog-title").textContent = el.dataset.ask;
    fields.replaceChildren();
    if (el.dataset.hours) fields.append(field(el.dataset.hours, "hours", "number", "4"));
    if (el.dataset.weight) fields.append(field(el.dataset.weight, "weight", "number", "5", { min: 0, max: 100 }));
    if (el.dataset.reason) fields.append(field(el.dataset.reasonLabel || el.dataset.reason, "reason", "text", ""));
    const form = box.querySelector("form");
    form.onsubmit = () => send({ ...el.dataset, ...fieldsOf(form) });
    box.onclose = () => byId(el.id)?.focus();
    box.showModal();
    (fields.querySelector("input") || byId("dialog-cancel")).focus();
  }

  function field(text, name, type, value, bounds = {}) {
    const label = document.createElement("label");
    const input = document.createElement("input");
    Object.assign(input, { name, type, value, ...bounds, required: true, id: `dialog-${name}`, autocomplete: "off" });
    label.append(text, input);
    return label;
  }

  document.addEventListener("click", (event) => {
    const el = event.target.closest("[data-do]");
    if (event.target.id === "dialog-cancel") byId("dialog").close();
    if (!el || el.tagName === "FORM") return;
    if (el.dataset.do === "leave") return leave();
    if (el.dataset.ask) return ask(el);
    if (el.dataset.form) return send({ ...fieldsOf(byId(el.dataset.form)), do: el.dataset.do });
    send({ ...el.dataset });
  });

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method === "dialog" || form.classList.contains("login")) return;
    event.preventDefault();
    if (form.dataset.do) send({ ...fieldsOf(form), do: form.dataset.do });
  });

  // A slider says where it stands while it moves, and is sent once it rests; meanwhile it is not drawn again.
  const REST_MS = 500;
  let resting = 0;
  document.addEventListener("input", (event) => {
    const slider = event.target;
    if (!slider.dataset.slide) return;
    const rest = 100 - slider.value;
    slider.dataset.held = "1";
    slider.setAttribute("aria-valuetext", slider.dataset.said.replace("#", slider.value).replace("~", rest));
    const shown = slider.parentElement.querySelector("output");
    if (shown) shown.textContent = `${slider.value} %`;
    clearTimeout(resting);
    resting = setTimeout(() => {
      delete slider.dataset.held;
      send({ do: slider.dataset.slide, claim: slider.dataset.claim, weight: slider.value });
    }, REST_MS);
  });

  document.addEventListener("input", (event) => {
    const form = event.target.closest("form[data-live]");
    if (form) send({ ...fieldsOf(form), do: form.dataset.live });
  });

  document.addEventListener("change", (event) => {
    const choice = event.target.dataset.choice;
    if (!choice) return;
    const value = event.target.value;
    if (choice === "theme") {
      remember("theme", value);
      document.documentElement.dataset.theme = value;
    } else {
      remember("language", value);
      const address = new URL(location.href);
      address.searchParams.delete("lang");
      location.replace(address);
    }
  });

  async function leave() {
    await fetch("leave", { method: "POST", redirect: "manual" });
    location.assign("login");
  }

  // Arrow keys move between the devices of the map, as in a grid.
  document.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1 }[event.key];
    const here = event.target.closest && event.target.closest(".gpu");
    if (!step || !here) return;
    const all = [...document.querySelectorAll(".gpu")];
    let next = all.indexOf(here) + step;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const at = here.getBoundingClientRect();
      const wanted = all.filter((each) => (each.getBoundingClientRect().top - at.top) * step > 4);
      const near = (each) => {
        const box = each.getBoundingClientRect();
        return Math.abs(box.top - at.top) * 4 + Math.abs(box.left - at.left);
      };
      next = all.indexOf(wanted.sort((a, b) => near(a) - near(b))[0]);
    }
    if (all[next]) {
      event.preventDefault();
      all[next].focus();
    }
  });

  // What was painted before the scripts ran gives way to the page itself.
  const painted = new MutationObserver(() => {
    if (!byId("at-bar")?.firstElementChild) return;
    byId("shell")?.remove();
    painted.disconnect();
  });
  painted.observe(document, { childList: true, subtree: true });

  // The age of the picture is drawn every second. When it no longer changes, the line is cut.
  let beat = performance.now();
  const watch = new MutationObserver(() => (beat = performance.now()));
  setInterval(() => {
    const place = byId("at-freshness");
    if (place && !place.dataset.watched) {
      place.dataset.watched = "1";
      watch.observe(place, { childList: true, subtree: true, characterData: true, attributes: true });
      beat = performance.now();
    }
    const cut = byId("cut");
    if (cut && place) cut.hidden = performance.now() - beat < BEAT_MS;
  }, 500);
})();
