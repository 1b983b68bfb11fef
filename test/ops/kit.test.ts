import { existsSync } from "node:fs";
import { describe, expect, it } from "vitest";
import {
  at,
  dashboard,
  dataOf,
  entriesOf,
  instruments,
  listAt,
  panels,
  pathOf,
  prometheusNames,
  rules,
  selectionOf,
  seriesNames,
  textOf,
} from "./kit.js";

const queries = [
  ...rules.map(({ alert, query }) => ({ of: `the alert ${alert}`, query })),
  ...panels.flatMap(({ title, targets }) =>
    targets.map(({ query }) => ({ of: `the panel ${title}`, query })),
  ),
];

const series = instruments().flatMap(seriesNames);

describe.each(queries)("a query of $of", ({ query }) => {
  const { names, patterns, labels } = selectionOf(query);
  const selected = series.filter(
    ({ node }) =>
      names.includes(node) || patterns.some((text) => new RegExp(`^${text}$`).test(node)),
  );

  it("selects series of docs/metrics.md", () => {
    expect(selected.length).toBe(new Set([...names, ...patterns]).size);
    expect(selected).not.toEqual([]);
  });

  it("selects them by the names of both exporters, and nothing else", () => {
    for (const name of names) {
      expect(selected).toContainEqual(expect.objectContaining({ node: name, collector: name }));
    }
    for (const text of patterns) {
      const pattern = new RegExp(`^${text}$`);
      const hits = series.flatMap(({ node, collector }) =>
        [node, collector].filter((name) => pattern.test(name)),
      );
      expect(hits).toHaveLength(2);
    }
  });

  it("goes by labels that these series have", () => {
    const known = new Set(["job", "instance", ...selected.flatMap((one) => one.labels)]);
    expect(labels.filter((label) => !known.has(label))).toEqual([]);
  });
});

it("a selection is read off a query", () => {
  expect(
    selectionOf(
      'sum by (job, le) (rate({__name__=~"a(_s)?_bucket", x!="b_c"}[5m])) / on (job) group_left () max(weir_y{z="1"}) > 0.5 and weir_w == 2',
    ),
  ).toEqual({
    names: ["weir_y", "weir_w"],
    patterns: ["a(_s)?_bucket"],
    labels: ["job", "le", "job", "x", "z"],
  });
});

const tests = dataOf("ops/alerts.test.yaml");

describe.each(rules)(
  "the alert $alert",
  ({ alert, for: wait, severity, summary, runbook, query }) => {
    it("has a time for which it must hold, a severity and a summary", () => {
      expect(wait).toMatch(/^\d+m$/);
      expect(["critical", "warning", "info"]).toContain(severity);
      expect(summary).not.toBe("undefined");
    });

    it("names only labels in its summary that its query leaves", () => {
      const named = [...summary.matchAll(/\$labels\.(\w+)/g)].map(([, label]) => label);
      const left = [...query.matchAll(/\bby \(([^)]*)\)/g)].map(([, list = ""]) =>
        list.split(", "),
      );
      expect(named.filter((label = "") => !left.some((list) => list.includes(label)))).toEqual([]);
    });

    it("links to its section of the runbook", () => {
      expect(runbook).toBe(`docs/runbook.md#${alert.toLowerCase()}`);
      expect(textOf("docs/runbook.md")).toContain(`\n### ${alert}\n`);
    });

    it("has a test in which it fires and one in which it does not", () => {
      const expected = listAt(tests, "tests").flatMap((test) =>
        listAt(test, "alert_rule_test")
          .filter((one) => at(one, "alertname") === alert)
          .map((one) => ({ test: at(test, "name"), alerts: listAt(one, "exp_alerts").length })),
      );
      const fires = new Set(expected.filter(({ alerts }) => alerts > 0).map(({ test }) => test));
      expect(fires.size).toBeGreaterThan(0);
      expect(expected.filter(({ test }) => !fires.has(test))).not.toEqual([]);
    });
  },
);

describe("ops/grafana-dashboard.json", () => {
  it("gives every panel a number and a place of its own", () => {
    const all = listAt(dashboard, "panels");
    expect(new Set(all.map((panel) => at(panel, "id"))).size).toBe(all.length);
    const taken = new Set<string>();
    for (const panel of all) {
      const [x = 0, y = 0, w = 0, h = 0] = ["x", "y", "w", "h"].map((name) =>
        Number(at(panel, "gridPos", name)),
      );
      expect(x + w).toBeLessThanOrEqual(24);
      for (let row = y; row < y + h; row += 1) {
        for (let column = x; column < x + w; column += 1) {
          expect(taken.has(`${row} ${column}`)).toBe(false);
          taken.add(`${row} ${column}`);
        }
      }
    }
  });

  it.each(panels)(
    "explains the panel $title, and takes its data from the chosen source",
    ({ panel }) => {
      expect(at(panel, "description")).toEqual(expect.stringMatching(/\.$/));
      const targets = listAt(panel, "targets");
      expect(targets).not.toEqual([]);
      for (const one of [panel, ...targets]) {
        expect(at(one, "datasource", "uid")).toBe(`$${"{datasource}"}`);
      }
      expect(new Set(targets.map((target) => at(target, "refId"))).size).toBe(targets.length);
    },
  );

  it.each(panels)(
    "has only labels in the legend of the panel $title that its queries leave",
    ({ targets }) => {
      for (const { query, legend } of targets) {
        const named = [...legend.matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => label);
        const [, list = ""] = /\bby \(([^)]*)\)/.exec(query) ?? [];
        const left = list.split(", ");
        expect(named.filter((label = "") => !left.includes(label))).toEqual([]);
      }
    },
  );

  it("uses the variables that it has", () => {
    const variables = listAt(dashboard, "templating", "list").map((one) => at(one, "name"));
    // Those with two underscores are Grafana's own.
    const used = [...textOf("ops/grafana-dashboard.json").matchAll(/\$\{?([a-z]\w*)/g)];
    expect(new Set(used.map(([, name]) => name))).toEqual(new Set(variables));
  });
});

describe("a configuration of ops/", () => {
  it.each(["prometheus", "collector", "tempo", "jaeger", "grafana-datasources"])(
    "%s.yaml is YAML, and docs/backends.md names it",
    (name) => {
      expect(entriesOf(dataOf(`ops/${name}.yaml`)).size).toBeGreaterThan(0);
      expect(textOf("docs/backends.md")).toContain(`\`${name}.yaml\``);
    },
  );

  it.each(["collector", "jaeger"])("%s.yaml uses the parts that it defines", (name) => {
    const config = dataOf(`ops/${name}.yaml`);
    const service = at(config, "service");
    const users = [service, ...entriesOf(at(service, "pipelines")).values()];
    for (const kind of ["receivers", "processors", "exporters", "extensions"]) {
      const used = users.flatMap((user) => listAt(user, kind));
      expect(new Set(used)).toEqual(new Set(entriesOf(at(config, kind)).keys()));
    }
  });
});

it("docs/backends.md has the names of Prometheus", () => {
  const all = instruments();
  const rows = textOf("docs/backends.md").matchAll(
    /^\| `([\w.]+)`, a .*\| `(\w+)` \| `(\w+)` \|$/gm,
  );
  const told = [...rows].map(([, name, node, collector]) => ({ name, node, collector }));
  expect(told).toHaveLength(4);
  for (const { name, node, collector } of told) {
    const instrument = all.find((one) => one.name === name);
    if (instrument === undefined) throw new Error(`there is no ${name}`);
    const part = instrument.type === "histogram" ? "_bucket" : "";
    const names = prometheusNames(instrument);
    expect([node, collector]).toEqual([names.node + part, names.collector + part]);
  }
});

it("the kit is part of the package", () => {
  expect(listAt(dataOf("package.json"), "files")).toContain("ops");
  expect(existsSync(pathOf("ops/alerts.yaml"))).toBe(true);
});
