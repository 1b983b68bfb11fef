// Bundles the programs, with all that they import, once with each bundler: as they were compiled to ES modules, as they were
// compiled to CommonJS modules, and with both in one bundle. Prints errors as JSON.
const path = require("node:path");
const esbuild = require("esbuild");
const webpack = require("webpack");

const programs = {
  esm: "./nodenext-esm/main.js",
  commonjs: "./node10/main.js",
  both: "./one-instance.cjs",
};
const errors = [];

esbuild.buildSync({
  absWorkingDir: __dirname,
  entryPoints: programs,
  outdir: "esbuild-out",
  outExtension: { ".js": ".cjs" },
  bundle: true,
  platform: "node",
  format: "cjs",
  // It warns that nothing stands for `import.meta.url` here, by which the viewer finds its page.
  logLevel: "error",
});

const settings = {
  mode: "production",
  target: "node20",
  context: __dirname,
  entry: programs,
  output: { path: path.join(__dirname, "webpack-out"), filename: "[name].cjs" },
  optimization: { minimize: false },
};
webpack(settings, (error, stats) => {
  if (error !== null) errors.push(error.message);
  for (const { message } of stats?.toJson({ all: false, errors: true }).errors ?? []) {
    errors.push(message);
  }
  console.log(JSON.stringify(errors));
});
