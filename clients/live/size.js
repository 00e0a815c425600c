/** Prints what the package adds to a page: minified, and then compressed as servers do. */
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const LIMIT = 5 * 1024;

const { outputFiles } = await build({
  entryPoints: ["dist/index.js"],
  bundle: true,
  minify: true,
  format: "esm",
  write: false,
});
const minified = outputFiles[0].contents;
const gzipped = gzipSync(minified, { level: 9 });
console.log(`${minified.length} bytes minified, ${gzipped.length} gzipped (limit ${LIMIT})`);
if (gzipped.length > LIMIT) process.exitCode = 1;
