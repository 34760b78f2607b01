import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { boot, has, makeMachine, prepare, SHARED_MEMORY } from '../scripts/guest/machine.mjs';
import { rotated, summarize } from './stats.mjs';
import { fixed, formatTable, times, verdict } from './table.mjs';

const MAIN = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const SIZE_BYTES = 64 * 1024 * 1024;
/** Share of the peer's rate that is the goal. */
const GOAL = 0.8;
const PEER = 'qemu-storage-daemon';
const WORKLOADS = [
  { name: '4 KiB random read, depth 1', rw: 'randread', bs: '4k', depth: 1 },
  { name: '4 KiB random write, depth 1', rw: 'randwrite', bs: '4k', depth: 1 },
  { name: '4 KiB random read, depth 16', rw: 'randread', bs: '4k', depth: 16 },
  { name: '4 KiB random write, depth 16', rw: 'randwrite', bs: '4k', depth: 16 },
  { name: '1 MiB read, depth 4', rw: 'read', bs: '1m', depth: 4 },
  { name: '1 MiB write, depth 4', rw: 'write', bs: '1m', depth: 4 },
];
/** Of fio's terse format, from 0. */
const FIELD = { read: 7, write: 48 };

/** Each back end, as a command that serves at a Unix socket; all of them keep everything in memory. */
const BACK_ENDS = [
  { name: 'powercut, no cache', command: (socket) => [process.execPath, MAIN, ...ours(socket, 'none')] },
  { name: 'powercut, nvme-512', command: (socket) => [process.execPath, MAIN, ...ours(socket, 'nvme-512')] },
  {
    name: PEER,
    command: (socket, image) => [
      PEER,
      '--blockdev',
      `driver=file,node-name=disk,filename=${image}`,
      '--export',
      `type=vhost-user-blk,id=export,node-name=disk,writable=on,addr.type=unix,addr.path=${socket}`,
    ],
  },
];

function ours(socket, profile) {
  return ['serve', 'vhost-user', '--size', '64M', '--socket', socket, '--profile', profile];
}

function diskOf(socket) {
  return [
    ...SHARED_MEMORY,
    '-chardev',
    `socket,id=c0,path=${socket}`,
    '-device',
    'vhost-user-blk-pci,chardev=c0,num-queues=1',
  ];
}

/** Fills the disk, so that nobody reads holes; then every workload, with a line before and one after. */
function guestScript(seconds) {
  const jobs = WORKLOADS.map(
    ({ rw, bs, depth }, i) =>
      `echo GUEST-BEGIN ${i}; echo GUEST-END ${i} $(/real/fio --name=x --filename=/dev/vda --thread --direct=1 ` +
      `--ioengine=libaio --rw=${rw} --bs=${bs} --iodepth=${depth} --time_based --runtime=${seconds} --minimal)`,
  );
  return ['dd if=/dev/urandom of=/dev/vda bs=1M count=64 2>/dev/null; sync', ...jobs].join('\n');
}

/** Processor time of a process so far, with what the kernel did for it, in microseconds. */
function cpuUs(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10_000;
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Boots the guest on a new back end. @returns for each workload its requests a second, and processor time for each */
async function round(machine, { name, command }, folder, seconds) {
  const socket = join(folder, 'disk.sock');
  const image = join(folder, 'raw.img');
  rmSync(socket, { force: true });
  writeFileSync(image, '');
  truncateSync(image, SIZE_BYTES);
  const [program, ...args] = command(socket, image);
  const server = spawn(program, args, { stdio: 'ignore' });
  try {
    for (let i = 0; !existsSync(socket); i++) {
      if (i > 300 || server.exitCode !== null) throw new Error(`${name} does not start`);
      await wait(100);
    }
    const results = [];
    let cpuBefore = 0;
    const { lines, errors } = await boot(machine, diskOf(socket), '', (line) => {
      if (line.includes('GUEST-BEGIN')) cpuBefore = cpuUs(server.pid);
      const [, index, terse] = /GUEST-END (\d+) (3;.*)/.exec(line) ?? [];
      if (terse === undefined) return;
      const { rw } = WORKLOADS[index];
      const iops = Number(terse.split(';')[rw.includes('read') ? FIELD.read : FIELD.write]);
      results[index] = { iops, cpuUs: (cpuUs(server.pid) - cpuBefore) / Math.max(1, iops * seconds) };
    }).ended;
    if (results.filter(Boolean).length !== WORKLOADS.length)
      throw new Error(`the guest on ${name}: ${lines.slice(-5).join(' | ')} ${errors}`);
    return results;
  } finally {
    const ended = new Promise((resolve) => server.once('exit', resolve));
    server.kill();
    await ended;
  }
}

/** @param {{ quick: boolean, progress: (line: string) => void }} settings */
export async function measureVhost({ quick, progress }) {
  const why = prepare();
  const missing = [PEER, 'fio'].filter((tool) => !has(tool));
  if (why !== undefined || missing.length > 0) {
    return { skipped: why ?? `there is no ${missing.join(', no ')}: install Debian's qemu-system-common and fio` };
  }
  const [roundCount, seconds] = quick ? [1, 1] : [5, 2];
  const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'powercut-bench-'));
  try {
    progress('vhost: making a machine');
    let machine;
    try {
      machine = makeMachine(folder, guestScript(seconds), ['fio']);
    } catch (error) {
      return { skipped: error.message };
    }
    const samples = new Map(BACK_ENDS.map(({ name }) => [name, []]));
    for (let i = 0; i < roundCount; i++) {
      for (const backEnd of rotated(BACK_ENDS, i)) {
        progress(`vhost: round ${i + 1} of ${roundCount}, ${backEnd.name}`);
        samples.get(backEnd.name).push(await round(machine, backEnd, folder, seconds));
      }
    }
    return {
      goal: GOAL,
      roundCount,
      seconds,
      workloads: WORKLOADS.map((workload, i) => summaryOf(workload, i, samples)),
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The ratio to the peer is taken within a round, so that what the machine does meanwhile meets both. */
function summaryOf({ name }, index, samples) {
  const peer = samples.get(PEER);
  const backEnds = [...samples].map(([backEnd, rounds]) => {
    const median = (pick) => summarize(rounds.map((results, round) => pick(results[index], peer[round][index]))).median;
    return {
      name: backEnd,
      iops: median(({ iops }) => iops),
      cpuUs: median(({ cpuUs: us }) => us),
      ratio: median((own, other) => own.iops / other.iops),
    };
  });
  return { name, backEnds };
}

export function renderVhost(result) {
  if (result.skipped !== undefined) return `vhost-user back ends under a guest: skipped, ${result.skipped}`;
  const head = ['workload', 'back end', 'requests/s', 'CPU us each', 'vs QEMU', 'goal'];
  const rows = result.workloads.flatMap(({ name, backEnds }) =>
    backEnds.map((backEnd, i) => [
      i === 0 ? name : '',
      backEnd.name,
      fixed(backEnd.iops, 0),
      fixed(backEnd.cpuUs, 1),
      times(backEnd.ratio),
      backEnd.name === PEER ? '' : verdict(backEnd.ratio >= result.goal),
    ]),
  );
  return [
    `vhost-user back ends, fio in a Linux guest under QEMU without KVM (goal: at least ${times(result.goal)} of ` +
      `${PEER}; medians of ${result.roundCount} interleaved rounds of ${result.seconds} s)`,
    formatTable(head, rows, 2),
  ].join('\n\n');
}
