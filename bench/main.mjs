#!/usr/bin/env node
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { measureYardstick, renderYardstick } from './yardstick.mjs';

const USAGE = `Side-by-side benchmarks of powercut and its peers. Build first: npm run build.

  node bench/main.mjs [--quick] [--json] [--only recoveries|workers|ring|nbd|vhost|puts|groups|opening|service] [--dir FOLDER]

  --quick       fewer rounds: a look, not a measurement
  --json        one JSON object on standard output instead of tables
  --only NAME   one part only
  --dir FOLDER  where the stores write (default: a folder beside the installed peers); it must be on a real disk

Example: npm run bench -- --quick --only ring`;

/** Each part is loaded only when it is run: none needs what another does. */
const PARTS = {
  recoveries: async (settings) => {
    const { measureRecoveries, renderRecoveries } = await import('./recoveries.mjs');
    return { measure: () => measureRecoveries(settings), render: renderRecoveries };
  },
  workers: async (settings) => {
    const { measureWorkers, renderWorkers } = await import('./workers.mjs');
    return { measure: () => measureWorkers(settings), render: renderWorkers };
  },
  ring: async (settings) => {
    const { measureRing, renderRing } = await import('./ring.mjs');
    return { measure: () => measureRing(settings), render: renderRing };
  },
  nbd: async (settings) => {
    const { measureNbd, renderNbd } = await import('./nbd.mjs');
    return { measure: () => measureNbd(settings), render: renderNbd };
  },
  vhost: async (settings) => {
    const { measureVhost, renderVhost } = await import('./vhost.mjs');
    return { measure: () => measureVhost(settings), render: renderVhost };
  },
  puts: async (settings) => {
    const { measurePuts, renderPuts } = await import('./puts.mjs');
    return { measure: () => measurePuts(settings), render: renderPuts };
  },
  groups: async (settings) => {
    const { measureGroups, renderGroups } = await import('./groups.mjs');
    return { measure: () => measureGroups(settings), render: renderGroups };
  },
  opening: async (settings) => {
    const { measureOpening, renderOpening } = await import('./opening.mjs');
    return { measure: () => measureOpening(settings), render: renderOpening };
  },
  service: async (settings) => {
    const { measureService, renderService } = await import('./service.mjs');
    return { measure: () => measureService(settings), render: renderService };
  },
};

/** Ignored by git, and on the same file system as the repository. */
const DEFAULT_FOLDER = fileURLToPath(new URL('node_modules/.cache/', import.meta.url));

function readOptions() {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      only: { type: 'string' },
      dir: { type: 'string', default: DEFAULT_FOLDER },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.only !== undefined && !Object.hasOwn(PARTS, values.only)) {
    throw new Error(`--only: expected one of ${Object.keys(PARTS).join(', ')}, got '${values.only}'`);
  }
  return values;
}

function describeMachine() {
  const [first] = cpus();
  return `node ${process.version}, ${process.platform} ${process.arch}, ${cpus().length} x ${first?.model ?? 'unknown'}`;
}

async function run(options) {
  const settings = {
    quick: options.quick,
    folder: options.dir,
    progress: (line) => void process.stderr.write(`${line}\n`),
  };
  const names = options.only === undefined ? Object.keys(PARTS) : [options.only];
  const results = { machine: describeMachine(), quick: options.quick, yardstick: measureYardstick() };
  if (!options.json) console.log(`${results.machine}${options.quick ? ' (quick)' : ''}`);
  if (!options.json) console.log(renderYardstick(results.yardstick));
  for (const name of names) {
    const { measure, render } = await PARTS[name](settings);
    results[name] = await measure();
    if (!options.json) console.log(`\n${render(results[name])}`);
  }
  if (options.json) console.log(JSON.stringify(results));
}

let options;
try {
  options = readOptions();
} catch (error) {
  console.error(`${error.message}\n\n${USAGE}`);
  process.exit(2);
}
if (options.help) console.log(USAGE);
else await run(options);
