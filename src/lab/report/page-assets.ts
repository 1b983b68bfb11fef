/** The colours of what is plotted. They are readable on white and on black. */
export const tones = `
.good{--tone:#1f9d57}
.refused-1{--tone:#d9a514}.refused-2{--tone:#b06f00}.refused-3{--tone:#efc75e}.refused-4{--tone:#8a5a13}
.failed-1{--tone:#d4293a}.failed-2{--tone:#8f1f5f}.failed-3{--tone:#f0707a}.failed-4{--tone:#7d3c3c}
.critical{--tone:#d03592}.high{--tone:#8a63e8}.normal{--tone:#2f80ed}.low{--tone:#3aa6a0}
.p99{--tone:#e0722a}.p50{--tone:#2f80ed}
.running{--tone:#2f80ed}.queued{--tone:#d9a514}.limit{--tone:#d03592}
.closed{--tone:#1f9d57}.half-open{--tone:#d9a514}.open{--tone:#d4293a}
.area{fill:var(--tone);fill-opacity:.8}
.line{fill:none;stroke:var(--tone);stroke-width:2;stroke-linejoin:round}
.limit.line{stroke-dasharray:5 3}
`;

export const style = `
:root{color-scheme:light dark;--bg:#fff;--panel:#f6f8fa;--text:#1f2328;--soft:#59636e;--edge:#d1d9e0;--shade:#8c959f26;--grid:#8c959f40}
@media (prefers-color-scheme:dark){:root{--bg:#0d1117;--panel:#161b22;--text:#e6edf3;--soft:#9198a1;--edge:#30363d;--shade:#8c959f30;--grid:#8c959f33}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--text);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
header,main{max-width:1240px;margin:0 auto;padding:0 20px}
header{padding-top:28px}
h1{margin:0 0 6px;font-size:28px;line-height:1.2;overflow-wrap:anywhere}
h2{margin:36px 0 8px;font-size:20px}
h3{margin:0;font-size:15px}
.kicker{margin:0;color:var(--soft);font:12px ui-monospace,SFMono-Regular,Menlo,monospace}
.what,.wanted{margin:0 0 4px;max-width:80ch}
.wanted,.note,.of,.events{color:var(--soft)}
.note,.of{margin:0 0 10px;font-size:13px;max-width:90ch}
.verdict{margin:0 0 8px;padding:8px 14px;border-left:4px solid #2f80ed;background:var(--panel);max-width:100ch}
a{color:inherit}
.cards,.columns{display:grid;gap:16px;grid-template-columns:repeat(var(--columns),minmax(0,1fr))}
.cards{margin-top:16px}
.card{padding:14px 16px;border:1px solid var(--edge);border-radius:8px}
.card h3,figcaption{overflow-wrap:anywhere}
.big{margin:2px 0 0;font-size:30px;font-weight:650;line-height:1.2;font-variant-numeric:tabular-nums}
dl{margin:0;font-size:13px}dl div{display:flex;justify-content:space-between;gap:12px;padding:2px 0;border-top:1px solid var(--edge)}
dt{color:var(--soft)}dd{margin:0;text-align:right;font-variant-numeric:tabular-nums}
.events{display:flex;flex-wrap:wrap;gap:2px 18px;margin:0 0 18px;padding:0;list-style:none;font-size:13px}
.events b{color:var(--text);font-weight:600;font-variant-numeric:tabular-nums}
.row{margin-top:22px}
figure{margin:0;min-width:0}
figcaption{font-size:13px;font-weight:600;margin:0 0 4px 52px}
.plot{position:relative;margin:6px 6px 22px 52px;height:150px}
.plot svg{position:absolute;inset:0;width:100%;height:100%;overflow:hidden}
.plot .y span{position:absolute;right:100%;margin-right:6px;transform:translateY(50%);white-space:nowrap}
.plot .x span{position:absolute;top:100%;margin-top:7px;transform:translateX(-50%);white-space:nowrap}
.plot span{color:var(--soft);font-size:11px;line-height:1;font-variant-numeric:tabular-nums}
.plot .at{position:absolute;top:0;bottom:0;width:1px;background:var(--text);pointer-events:none}
.trouble{fill:var(--shade)}
.grid{stroke:var(--grid);fill:none;vector-effect:non-scaling-stroke}
.event{stroke:var(--soft);stroke-dasharray:2 3;fill:none;vector-effect:non-scaling-stroke}
.line{vector-effect:non-scaling-stroke}
.legend{display:flex;flex-wrap:wrap;gap:2px 14px;margin:0 0 0 52px;padding:0;list-style:none;font-size:12px;color:var(--soft)}
.legend b{color:var(--text);font-variant-numeric:tabular-nums}
.key{display:inline-block;width:10px;height:10px;margin-right:5px;border-radius:2px;background:var(--tone)}
.scroll{overflow-x:auto;border:1px solid var(--edge);border-radius:8px}
table{border-collapse:collapse;font-size:13px;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:6px 10px;text-align:right;white-space:nowrap;border-top:1px solid var(--edge)}
thead th{border-top:0;background:var(--panel);color:var(--soft);font-weight:600}
th[scope=row]{text-align:left;font-weight:600}
thead th:nth-child(-n+2),th:nth-last-child(-n+2),td:nth-last-child(-n+2){text-align:left}
td:nth-last-child(-n+2){white-space:normal;min-width:16em}
pre{overflow-x:auto;margin:0 0 8px;padding:12px 14px;border-radius:8px;background:var(--panel);font:13px/1.45 ui-monospace,SFMono-Regular,Menlo,monospace}
summary{cursor:pointer;margin:8px 0}
main{padding-bottom:48px}
@media (max-width:720px){header,main{padding-left:14px;padding-right:14px}.cards,.columns{grid-template-columns:minmax(0,1fr)}.plot,figcaption,.legend{margin-left:48px}}
@media print{.plot{break-inside:avoid}}
${tones}`;

/** Shows all plots at the moment that is pointed at. */
export const script = `
const figures = [...document.querySelectorAll("figure[data-end]")].map((figure) => ({
  figure,
  endMs: Number(figure.dataset.end),
  plot: figure.querySelector(".plot"),
  at: figure.querySelector(".at"),
  values: [...figure.querySelectorAll(".legend b")],
  series: JSON.parse(figure.querySelector("script").textContent),
}));
const show = (share) => {
  for (const { endMs, at, values, series } of figures) {
    at.hidden = share === undefined;
    if (share !== undefined) at.style.left = 100 * share + "%";
    for (const [index, { s, v }] of series.entries()) {
      const value = share === undefined ? "" : v[Math.min(Math.floor((share * endMs) / s), v.length - 1)];
      values[index].textContent = value ?? "–";
    }
  }
};
for (const { plot } of figures) {
  plot.addEventListener("pointermove", (event) => {
    const { left, width } = plot.getBoundingClientRect();
    show(Math.min(Math.max((event.clientX - left) / width, 0), 1));
  });
  plot.addEventListener("pointerleave", () => show(undefined));
}
`;
