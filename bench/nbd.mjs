import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rotated, summarize } from './stats.mjs';
import { fixed, formatTable, times, verdict } from './table.mjs';

const MAIN = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const FLOOR = fileURLToPath(new URL('nbd-floor.mjs', import.meta.url));
const SIZE = '64M';
const SIZE_BYTES = 64 * 1024 * 1024;
/** Share of the peers' rate that is the goal. */
const GOAL = 0.5;
const WORKLOADS = [
  { name: '4 KiB random read, depth 1', rw: 'randread', bs: '4k', depth: 1 },
  { name: '4 KiB random write, depth 1', rw: 'randwrite', bs: '4k', depth: 1 },
  { name: '4 KiB random read, depth 16', rw: 'randread', bs: '4k', depth: 16 },
  { name: '4 KiB random write, depth 16', rw: 'randwrite', bs: '4k', depth: 16 },
  { name: '1 MiB read', rw: 'read', bs: '1m', depth: 4 },
  { name: '1 MiB write', rw: 'write', bs: '1m', depth: 4 },
];

/** Each server, as a command that serves at a Unix socket; all of them keep everything in memory. */
const SERVERS = [
  { name: 'powercut, no cache', needs: [], command: (socket) => [process.execPath, MAIN, ...ours(socket, 'none')] },
  { name: 'powercut, nvme-512', needs: [], command: (socket) => [process.execPath, MAIN, ...ours(socket, 'nvme-512')] },
  { name: 'nbdkit memory', needs: ['nbdkit'], command: (socket) => ['nbdkit', '-f', '-U', socket, 'memory', SIZE] },
  // No peer, but the floor: what is lost against it is ours, and the rest is Node's.
  { name: 'bare Node sockets', needs: [], command: (socket) => [process.execPath, FLOOR, socket, String(SIZE_BYTES)] },
  {
    name: 'qemu-nbd, raw file in memory',
    needs: ['qemu-nbd'],
    command: (socket, image) => ['qemu-nbd', '-t', '-e', '4', '-k', socket, '-f', 'raw', '--cache=writeback', image],
  },
];

function ours(socket, profile) {
  return ['serve', 'nbd', '--size', SIZE, '--socket', socket, '--profile', profile];
}

function has(tool) {
  return spawnSync('sh', ['-c', `command -v ${tool}`]).status === 0;
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function start({ name, command }, index, folder) {
  const socket = join(folder, `${index}.sock`);
  const image = join(folder, 'raw.img');
  writeFileSync(image, '');
  truncateSync(image, SIZE_BYTES);
  const [program, ...args] = command(socket, image);
  const child = spawn(program, args, { stdio: 'ignore' });
  for (let i = 0; !existsSync(socket); i++) {
    if (i > 300 || child.exitCode !== null) throw new Error(`${name} does not start`);
    await wait(100);
  }
  await wait(200);
  return { name, socket, child };
}

/** Processor time of a process so far, with what the kernel did for it, in microseconds. */
function cpuUs(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10_000;
}

function fio({ socket, child }, { rw, bs, depth }, seconds) {
  const cpuBefore = cpuUs(child.pid);
  const args = ['--name=x', '--ioengine=nbd', `--uri=nbd+unix:///?socket=${socket}`, `--rw=${rw}`, `--bs=${bs}`];
  const more = [`--iodepth=${depth}`, '--time_based', `--runtime=${seconds}`, `--size=${SIZE}`, '--output-format=json'];
  return new Promise((resolve, reject) => {
    const process = spawn('fio', [...args, ...more], { stdio: ['ignore', 'pipe', 'ignore'] });
    let out = '';
    process.stdout.on('data', (chunk) => {
      out += chunk;
    });
    process.on('error', reject);
    process.on('close', (code) => {
      if (code !== 0) reject(new Error(`fio ended with ${code}`));
      const [job] = JSON.parse(out.slice(out.indexOf('{'))).jobs;
      const { iops, total_ios: count } = rw.includes('read') ? job.read : job.write;
      resolve({ iops, cpuUs: (cpuUs(child.pid) - cpuBefore) / Math.max(1, count) });
    });
  });
}

/** @param {{ quick: boolean, progress: (line: string) => void }} settings */
export async function measureNbd({ quick, progress }) {
  if (!has('fio')) return { skipped: "there is no fio: install Debian's packages fio, nbdkit and qemu-utils" };
  const missing = SERVERS.flatMap(({ name, needs }) => (needs.every(has) ? [] : [name]));
  // Memory where there is such a file system: the disk below the image is not what is measured.
  const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'powercut-bench-'));
  const running = [];
  const [roundCount, seconds] = quick ? [1, 1] : [5, 2];
  try {
    for (const [i, server] of SERVERS.entries())
      if (server.needs.every(has)) running.push(await start(server, i, folder));
    // Filled, so that nobody reads holes.
    for (const server of running) await fio(server, { rw: 'write', bs: '1m', depth: 4 }, 1);
    const workloads = [];
    for (const workload of WORKLOADS) {
      progress(`nbd: ${workload.name}`);
      const samples = new Map(running.map(({ name }) => [name, []]));
      for (let round = 0; round < roundCount; round++)
        for (const server of rotated(running, round))
          samples.get(server.name).push(await fio(server, workload, seconds));
      workloads.push({ name: workload.name, servers: [...samples].map(([name, list]) => summary(name, list)) });
    }
    return { goal: GOAL, roundCount, seconds, missing, workloads };
  } finally {
    for (const { child } of running) child.kill();
    rmSync(folder, { recursive: true, force: true });
  }
}

function summary(name, list) {
  const median = (pick) => summarize(list.map(pick)).median;
  return { name, iops: median(({ iops }) => iops), cpuUs: median(({ cpuUs: us }) => us) };
}

export function renderNbd(result) {
  if (result.skipped !== undefined) return `NBD servers under fio: skipped, ${result.skipped}`;
  const head = ['workload', 'server', 'requests/s', 'CPU us each', 'vs bare Node', 'vs nbdkit', 'vs qemu-nbd', 'goal'];
  const rows = result.workloads.flatMap(({ name, servers }) => {
    const rate = (part) => servers.find((server) => server.name.startsWith(part))?.iops;
    const others = [rate('bare'), rate('nbdkit'), rate('qemu-nbd')];
    return servers.map((server, i) => {
      const ratios = others.map((other) => (other === undefined ? undefined : server.iops / other));
      const isOurs = server.name.startsWith('powercut');
      const isMet = ratios.slice(1).every((ratio) => ratio === undefined || ratio >= result.goal);
      return [
        i === 0 ? name : '',
        server.name,
        fixed(server.iops, 0),
        fixed(server.cpuUs, 1),
        ...ratios.map((ratio) => (ratio === undefined ? '' : times(ratio))),
        isOurs ? verdict(isMet) : '',
      ];
    });
  });
  const missing = result.missing.length === 0 ? '' : `; not here: ${result.missing.join(', ')}`;
  return [
    `NBD servers under fio, one connection (goal: at least ${times(result.goal)} of each peer; ` +
      `medians of ${result.roundCount} interleaved rounds of ${result.seconds} s${missing})`,
    formatTable(head, rows, 2),
  ].join('\n\n');
}
