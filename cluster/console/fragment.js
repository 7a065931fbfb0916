// Replaces its content as a whole and keeps the reader's place: focus, caret, open details, scroll.
export default {
  template: `<component :is="tag"></component>`,
  props: { html: String, tag: String },
  mounted() {
    this.draw();
  },
  updated() {
    this.draw();
  },
  methods: {
    draw() {
      if (this.html === this.drawn) return;
      const el = this.$el;
      if (el.querySelector("[data-held]")) return;
      const held = el.contains(document.activeElement) ? document.activeElement : null;
      const id = held && held.id;
      const caret = held && "selectionStart" in held ? [held.selectionStart, held.selectionEnd] : null;
      const open = [...el.querySelectorAll("details[open][id]")].map((each) => each.id);
      const scrolls = [...el.querySelectorAll("[data-scroll]")].map((each) => each.scrollTop);
      el.innerHTML = this.html;
      this.drawn = this.html;
      el.dispatchEvent(new CustomEvent("redrawn", { bubbles: true }));
      open.forEach((each) => document.getElementById(each)?.setAttribute("open", ""));
      el.querySelectorAll("[data-scroll]").forEach((each, n) => (each.scrollTop = scrolls[n] || 0));
      const again = id && document.getElementById(id);
      if (again) {
        again.focus({ preventScroll: true });
        if (caret && again.setSelectionRange && caret[0] !== null) again.setSelectionRange(...caret);
      }
    },
  },
};
