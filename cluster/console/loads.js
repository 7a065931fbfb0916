// Writes the load of each device into its tile: what changes every second is sent as a few numbers, not as a map.
export default {
  template: `<span hidden></span>`,
  props: { nodes: Object, known: String, unknown: String },
  mounted() {
    this.onDrawn = (event) => this.fill(event.target.id);
    document.addEventListener("redrawn", this.onDrawn);
    this.all();
  },
  updated() {
    this.all();
  },
  unmounted() {
    document.removeEventListener("redrawn", this.onDrawn);
  },
  methods: {
    all() {
      for (const place of Object.keys(this.nodes)) this.fill(place);
    },
    fill(place) {
      const loads = this.nodes[place]?.split(",");
      const tiles = loads ? document.getElementById(place)?.querySelectorAll(".gpu") : null;
      // A map that is being drawn anew has other tiles than these numbers are for: it says so when it is done.
      if (!tiles || tiles.length !== loads.length) return;
      tiles.forEach((tile, at) => this.write(tile, loads[at]));
    },
    write(tile, load) {
      if (tile.dataset.load === load) return;
      tile.dataset.load = load;
      const said = load ? this.known.replace("{percent}", load) : this.unknown;
      tile.style.setProperty("--load", load ? `${load}%` : "0%");
      tile.querySelector("span").textContent = load ? `${load} %` : "?";
      tile.setAttribute("aria-label", `${tile.dataset.said}, ${said}`);
      tile.title = tile.getAttribute("aria-label");
    },
  },
};
