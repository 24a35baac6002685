// Compile every contract of the house and print its artifacts, or write them beside the sources.
//
//   npm ci && node compile.mjs --root ../..          write receipts/contracts/*.json and minting/contracts/*.json
//   node compile.mjs --root ../.. --out DIR          write them under DIR instead (the test compares)
//   node compile.mjs --only CommitRegister           one contract alone
//
// The settings make the bytes the same on every machine: no metadata hash, no CBOR tail, one pinned compiler.

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";

const require = createRequire(import.meta.url);
const solc = require("solc");

const CONTRACTS = [
  "receipts/contracts/CommitRegister.sol",
  "minting/contracts/AIToken.sol",
  "minting/contracts/AITokenMinter.sol",
  "tests/benchmarks/StoredRegister.sol", // stands in for the register of others, to measure
];

const SETTINGS = {
  evmVersion: "cancun", // OpenZeppelin uses MCOPY; the Numbers chain knows Cancun, nothing later
  viaIR: true,
  optimizer: { enabled: true, runs: 200 },
  metadata: { bytecodeHash: "none", appendCBOR: false },
};

const { values: options } = parseArgs({
  options: { root: { type: "string", default: "../.." }, out: { type: "string" }, only: { type: "string" } },
});
const wanted = CONTRACTS.filter((path) => !options.only || path.endsWith(`/${options.only}.sol`));
const root = resolve(options.root);
const out = resolve(options.out ?? options.root);

const sources = Object.fromEntries(
  wanted.map((path) => [path, { content: readFileSync(join(root, path), "utf8") }]),
);
const input = {
  language: "Solidity",
  sources,
  settings: {
    ...SETTINGS,
    outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode"] } },
  },
};

function readImport(path) {
  if (!path.startsWith("@openzeppelin/")) return { error: `${path} is not a package that is pinned here` };
  return { contents: readFileSync(require.resolve(path), "utf8") };
}

const output = JSON.parse(solc.compile(JSON.stringify(input), { import: readImport }));
const complaints = output.errors ?? [];
for (const complaint of complaints) console.error(complaint.formattedMessage);
if (complaints.length > 0) process.exit(1); // a warning is a complaint too

const pinned = require("./package.json").devDependencies;
for (const path of wanted) {
  const name = path.split("/").at(-1).replace(".sol", "");
  const compiled = output.contracts[path][name];
  const artifact = {
    contract: name,
    source: path,
    source_sha256: createHash("sha256").update(sources[path].content).digest("hex"),
    compiler: { solc: solc.version(), openzeppelin: pinned["@openzeppelin/contracts"], settings: SETTINGS },
    abi: compiled.abi,
    bytecode: `0x${compiled.evm.bytecode.object}`,
    deployed_bytecode: `0x${compiled.evm.deployedBytecode.object}`,
    immutables: Object.values(compiled.evm.deployedBytecode.immutableReferences ?? {})
      .flat()
      .map(({ start, length }) => [start, length])
      .sort((a, b) => a[0] - b[0]), // the places that the constructor fills in
  };
  const target = join(out, path.replace(".sol", ".json"));
  mkdirSync(dirname(target), { recursive: true });
  writeFileSync(target, `${JSON.stringify(artifact, null, 1)}\n`);
  console.log(`${artifact.source}: ${(artifact.deployed_bytecode.length - 2) / 2} bytes`);
}
