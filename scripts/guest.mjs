// A Linux kernel in QEMU on a disk of `powercut serve`: it makes an ext4 file system, writes files and syncs each, and is
// cut off in the midst of it, several times. It comes back on what the cut left; every file that was synced has to be
// there, and e2fsck has to find nothing; and, whatever ext4 makes of it, each sector has to hold what was durable or was
// written since. Then the same with a disk that lies about flushes, which has to fail: so that nobody wonders whether it can.
//
// Over vhost-user the server is also killed under the running guest, thrice, and started again: the guest is to notice
// nothing but a pause.
//
// vhost-user: the guest's rings are served by powercut itself, in shared memory. nbd: they are QEMU's, which asks powercut
// for each request. The guest says which ring it has negotiated, and that has to be the one that was asked for.
//
// The disk has sectors of 4096 bytes, as ext4's blocks here, so that no block of its journal can be torn. With
// --profile nvme-512 it can, and ext4 does not survive that always: docs/serve.md.
//
// Prints `guest: N passed, N failed, N skipped`. Build first: npm run build.
//
//   node scripts/guest.mjs nbd|vhost-user [--rings one|all] [--cuts 3] [--seed 1] [--profile 4kn|nvme-512] [--keep FOLDER]
//
//   --rings all     split and packed, with 1 and 2 queues, with and without EVENT_IDX: a whole run on each
//   --keep FOLDER   for the trace and the image of each cut, to look at
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { judgeCut } from './guest/judge-cut.mjs';
import { boot, makeMachine, prepare, SHARED_MEMORY } from './guest/machine.mjs';

const MAIN = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rings: { type: 'string', default: 'one' },
    cuts: { type: 'string', default: '3' },
    seed: { type: 'string', default: '1' },
    profile: { type: 'string', default: '4kn' },
    keep: { type: 'string' },
  },
});
const [DOOR] = positionals;
if (DOOR !== 'nbd' && DOOR !== 'vhost-user') throw new Error(`expected nbd or vhost-user, got ${DOOR}`);
const [CUTS, SEED] = [Number(options.cuts), Number(options.seed)];
const SECTOR_BYTES = { '4kn': 4096, 'nvme-512': 512 }[options.profile];
if (SECTOR_BYTES === undefined) throw new Error(`--profile: expected 4kn or nvme-512, got ${options.profile}`);

/** What the guest's driver is to negotiate. */
const RINGS = [false, true].flatMap((packed) =>
  [1, 2].flatMap((queues) => [true, false].map((eventIdx) => ({ packed, queues, eventIdx }))),
);
if (options.rings !== 'one' && options.rings !== 'all')
  throw new Error(`--rings: expected one or all, got ${options.rings}`);
const TESTED_RINGS = options.rings === 'all' ? RINGS : RINGS.slice(0, 1);
const nameOf = ({ packed, queues, eventIdx }) =>
  `${packed ? 'packed' : 'split'}, ${queues} ${queues === 1 ? 'queue' : 'queues'}, ${eventIdx ? '' : 'no '}EVENT_IDX`;

/** `first=1`: makes the file system. `check=N`: files 1 to N must be there. `last=1`: writes no more. */
const GUEST = `
for word in $(cat /proc/cmdline); do case $word in first=*|check=*|last=*) export $word;; esac; done
content() { seq $1 $(($1 * 40 + 200)); }
[ -n "$first" ] && { /real/mke2fs -t ext4 -b 4096 -q -F /dev/vda || { echo GUEST-FAILED mke2fs; poweroff -f; }; }
echo GUEST-RING $(cat /sys/block/vda/device/features) $(ls /sys/block/vda/mq | wc -l)
mount -t ext4 /dev/vda /mnt || { echo GUEST-FAILED mount; poweroff -f; }
for n in $(seq 1 \${check:-0}); do
  [ "$(content $n | md5sum)" = "$(md5sum < /mnt/f$n)" ] || { echo GUEST-LOST $n; poweroff -f; }
done
echo GUEST-CHECKED \${check:-0}
if [ -z "$last" ]; then
  n=$((\${check:-0} + 1))
  while true; do
    content $n > /mnt/unsynced$((n % 7))
    content $n | dd of=/mnt/f$n conv=fsync bs=64k 2>/dev/null && echo GUEST-SYNCED $n
    n=$((n + 1))
  done
fi
umount /mnt && echo GUEST-DONE
`;

const folder = mkdtempSync(join(tmpdir(), 'powercut-guest-'));
const cuts = options.keep ?? join(folder, 'cuts');
mkdirSync(cuts, { recursive: true });
const count = { passed: 0, failed: 0, skipped: 0 };
let server;

function ctl(...words) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [MAIN, 'ctl', '--control', join(folder, 'ctl.sock'), '--json', ...words],
    { encoding: 'utf8' },
  );
  if (status !== 0) throw new Error(`ctl ${words.join(' ')}: ${stderr}`);
  return JSON.parse(stdout);
}

const SOCKET = join(folder, 'disk.sock');

/** @param disk options of the disk */
function serve(disk = ['--profile', options.profile]) {
  const sockets = ['--socket', SOCKET, '--control', join(folder, 'ctl.sock')];
  server = spawn(process.execPath, [MAIN, 'serve', DOOR, '--size', '64M', ...disk, ...sockets], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return new Promise((resolve, reject) => {
    server.stdout.once('data', resolve);
    server.once('exit', (code) => reject(new Error(`the server ended with ${code}`)));
  });
}

async function stop() {
  const ended = new Promise((resolve) => server.once('exit', resolve));
  ctl('stop');
  await ended;
}

/** QEMU's arguments for the disk, with rings as wished. */
function diskOf({ packed, queues, eventIdx }) {
  const ring = `num-queues=${queues},packed=${packed ? 'on' : 'off'},event_idx=${eventIdx ? 'on' : 'off'}`;
  const processors = ['-smp', String(queues)];
  if (DOOR === 'vhost-user') {
    return [
      ...processors,
      ...SHARED_MEMORY,
      '-chardev',
      `socket,id=c0,path=${SOCKET},reconnect=1`,
      '-device',
      `vhost-user-blk-pci,chardev=c0,${ring}`,
    ];
  }
  const sectors = `logical_block_size=${SECTOR_BYTES},physical_block_size=${SECTOR_BYTES}`;
  return [
    ...processors,
    '-drive',
    `if=none,id=d0,format=raw,discard=unmap,file.driver=nbd,file.server.type=unix,file.server.path=${SOCKET}`,
    '-device',
    `virtio-blk-pci,drive=d0,${sectors},${ring}`,
  ];
}

/** Boots on a disk with such a ring; the guest must have negotiated it. */
function start(machine, ring, append, onLine) {
  const guest = boot(machine, diskOf(ring), append, onLine);
  return {
    kill: guest.kill,
    ended: guest.ended.then(({ lines, errors }) => {
      const [, features, queues] = lines.map((line) => /GUEST-RING ([01]+) (\d+)/.exec(line)).find(Boolean) ?? [];
      const found =
        features === undefined
          ? 'no ring'
          : nameOf({
              packed: features[34] === '1',
              queues: Number(queues),
              eventIdx: features[29] === '1',
            });
      if (found !== nameOf(ring)) {
        throw new Error(`the guest has ${found}: ${lines.slice(-8).join(' | ')} ${errors}`);
      }
      return { lines, errors };
    }),
  };
}

/**
 * Boots, lets the guest sync some files, and cuts the power at the nth write after.
 * @returns the number of the last file that was synced
 */
async function workAndCut(machine, ring, append, checked, nth) {
  let synced = checked;
  let isCutSet = false;
  const guest = start(machine, ring, append, (line) => {
    const match = /GUEST-SYNCED (\d+)/.exec(line);
    if (match === null) return;
    synced = Number(match[1]);
    if (isCutSet || synced < checked + 5) return;
    isCutSet = true;
    ctl('cut', '--nth', String(nth), '--of', 'write');
    // The machine loses its power with the disk.
    ctlWait().then(() => guest.kill());
  });
  const { lines, errors } = await guest.ended;
  if (!isCutSet || lines.some((line) => /GUEST-(FAILED|LOST)/.test(line)))
    throw new Error(`the guest: ${lines.slice(-8).join(' | ')} ${errors}`);
  return synced;
}

function ctlWait() {
  const words = [MAIN, 'ctl', '--control', join(folder, 'ctl.sock'), 'wait', '--timeout', '60s'];
  return new Promise((resolve) => spawn(process.execPath, words, { stdio: 'ignore' }).on('close', resolve));
}

/** Checks the file system as it is on the disk now, with nobody using it. */
function fsck(name) {
  const image = join(folder, `${name}.img`);
  ctl('save', image);
  const { status, stdout } = spawnSync('e2fsck', ['-fn', image], {
    encoding: 'utf8',
    env: { ...process.env, PATH: `${process.env.PATH}:/sbin:/usr/sbin` },
  });
  rmSync(image);
  if (status !== 0)
    throw new Error(`e2fsck -fn ended with ${status}: ${stdout.trim().split('\n').slice(-5).join('; ')}`);
}

/**
 * Lets the guest work and cuts its power, decides what is left, judges that, and switches the disk on.
 * @param resolution ctl's options
 */
async function traced(name, ring, resolution, work) {
  const base = join(cuts, `${nameOf(ring)}, ${name}`.replaceAll(/\W+/g, '-'));
  const [trace, image] = [`${base}.trace`, `${base}.img`];
  ctl('trace-start', trace);
  const synced = await work();
  const { lostSectors } = ctl('resolve', ...resolution);
  ctl('trace-stop');
  ctl('save', image);
  ctl('on');
  return { synced, lostSectors, judge: () => judgeCut(trace, image) };
}

async function soundDisk(machine, ring) {
  await serve();
  let synced = 0;
  let lost = 0;
  for (let round = 1; round <= CUTS; round++) {
    const append = round === 1 ? 'first=1' : `check=${synced}`;
    const before = synced;
    const cut = await traced(`cut ${round}`, ring, ['--seed', String(SEED + round)], () =>
      workAndCut(machine, ring, append, before, SEED + round * 2),
    );
    const undecided = cut.judge();
    synced = cut.synced;
    lost += cut.lostSectors;
    console.log(`         cut ${round}: ${synced} files synced, of ${undecided} sectors ${cut.lostSectors} lost`);
  }
  const { lines } = await start(machine, ring, `check=${synced} last=1`).ended;
  if (!lines.some((line) => line.includes('GUEST-DONE'))) throw new Error(`the guest: ${lines.slice(-8).join(' | ')}`);
  fsck('after');
  await stop();
  return `${synced} synced files are there after ${CUTS} cuts, ${lost} sectors lost, e2fsck finds nothing`;
}

async function lyingDisk(machine, ring) {
  await serve();
  ctl('fault', 'lying-flush');
  const { synced, judge } = await traced('lying', ring, ['--lost'], () => workAndCut(machine, ring, 'first=1', 0, 3));
  let verdict = 'that all is well';
  try {
    judge();
  } catch (error) {
    verdict = error.message;
  }
  if (!/neither what was durable/.test(verdict)) throw new Error(`the disk lied, and its judge says ${verdict}`);
  const { lines } = await start(machine, ring, `check=${synced} last=1`).ended;
  await stop();
  const fault = lines.find((line) => /GUEST-(FAILED|LOST)/.test(line));
  if (fault === undefined) throw new Error(`${synced} files were synced to a disk that lies, and all are there`);
  return `noticed: ${/GUEST-\w+ \S+/.exec(fault)[0]}`;
}

/** A disk without a volatile cache: what was answered is in its file, whatever becomes of the server. */
async function killedServer(machine, ring) {
  const disk = ['--image', join(folder, 'killed.img'), '--profile', 'none'];
  await serve(disk);
  let synced = 0;
  let kills = 0;
  let failure;
  const guest = start(machine, ring, 'first=1', (line) => {
    const match = /GUEST-SYNCED (\d+)/.exec(line);
    if (match === null) return;
    synced = Number(match[1]);
    if (synced >= 24) guest.kill();
    else if (synced === 6 * (kills + 1)) {
      kills++;
      server.removeAllListeners('exit');
      server.once('exit', () => serve(disk).catch((error) => (failure = error)));
      server.kill('SIGKILL');
    }
  });
  const { lines } = await guest.ended;
  if (failure !== undefined) throw failure;
  const bad = lines.find((line) => /GUEST-(FAILED|LOST)|I\/O error|EXT4-fs error/.test(line));
  if (bad !== undefined || synced < 24) throw new Error(`the guest: ${bad ?? lines.slice(-8).join(' | ')}`);
  const last = await start(machine, ring, `check=${synced} last=1`).ended;
  if (!last.lines.some((line) => line.includes('GUEST-DONE')))
    throw new Error(`the guest: ${last.lines.slice(-8).join(' | ')}`);
  fsck('killed-after');
  await stop();
  return `${synced} synced files are there after ${kills} kills, no I/O error`;
}

async function check(name, body) {
  try {
    const remark = await body();
    count.passed++;
    console.log(`ok       ${name}: ${remark}`);
  } catch (error) {
    count.failed++;
    console.log(`FAILED   ${name}\n         ${error.message}`);
    server?.kill('SIGKILL');
  }
}

try {
  const reason = prepare();
  let machine;
  let why = reason;
  try {
    machine = reason === undefined ? makeMachine(folder, GUEST) : undefined;
  } catch (error) {
    why = error.message;
  }
  if (machine === undefined) {
    count.skipped = TESTED_RINGS.length + (DOOR === 'vhost-user' ? 2 : 1);
    console.log(`skipped  a Linux guest over ${DOOR} (${why})`);
  } else {
    for (const ring of TESTED_RINGS) {
      await check(`a Linux guest over ${DOOR}, ext4; ${nameOf(ring)}`, () => soundDisk(machine, ring));
    }
    if (DOOR === 'vhost-user') {
      await check('the same while the server is killed and started again', () =>
        killedServer(machine, TESTED_RINGS.at(-1)),
      );
    }
    await check('the same on a disk that lies about flushes fails', () => lyingDisk(machine, TESTED_RINGS.at(-1)));
  }
} finally {
  server?.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
}
console.log(`guest: ${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`);
if (count.failed > 0) process.exitCode = 1;
