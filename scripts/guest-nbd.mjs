// A Linux kernel in QEMU on a disk of `powercut serve nbd`: it makes an ext4 file system, writes files and syncs each, and
// is cut off in the midst of it, several times. It comes back on what the cut left; every file that was synced has to be
// there, and e2fsck has to find nothing; and, whatever ext4 makes of it, each sector has to hold what was durable or was
// written since. Then the same with a disk that lies about flushes, which has to fail: so that nobody wonders whether it can.
//
// The disk has sectors of 4096 bytes, as ext4's blocks here, so that no block of its journal can be torn. With
// --profile nvme-512 it can, and ext4 does not survive that always: docs/serve.md.
//
// Prints `guest: N passed, N failed, N skipped`. Build first: npm run build.
//
//   node scripts/guest-nbd.mjs [--cuts 3] [--seed 1] [--profile 4kn|nvme-512] [--keep FOLDER]
//
//   --keep FOLDER   for the trace and the image of each cut, to look at
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { judgeCut } from './guest/judge-cut.mjs';
import { boot, makeMachine, prepare } from './guest/machine.mjs';

const MAIN = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const { values: options } = parseArgs({
  options: {
    cuts: { type: 'string', default: '3' },
    seed: { type: 'string', default: '1' },
    profile: { type: 'string', default: '4kn' },
    keep: { type: 'string' },
  },
});
const [CUTS, SEED] = [Number(options.cuts), Number(options.seed)];
const SECTOR_BYTES = { '4kn': 4096, 'nvme-512': 512 }[options.profile];
if (SECTOR_BYTES === undefined) throw new Error(`--profile: expected 4kn or nvme-512, got ${options.profile}`);

/** `first=1`: makes the file system. `check=N`: files 1 to N must be there. `last=1`: writes no more. */
const GUEST = `
for word in $(cat /proc/cmdline); do case $word in first=*|check=*|last=*) export $word;; esac; done
content() { seq $1 $(($1 * 40 + 200)); }
[ -n "$first" ] && { /real/mke2fs -t ext4 -b 4096 -q -F /dev/vda || { echo GUEST-FAILED mke2fs; poweroff -f; }; }
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

function serve() {
  const sockets = ['--socket', join(folder, 'nbd.sock'), '--control', join(folder, 'ctl.sock')];
  server = spawn(process.execPath, [MAIN, 'serve', 'nbd', '--size', '64M', '--profile', options.profile, ...sockets], {
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

const DISK = [
  '-drive',
  `if=none,id=d0,format=raw,discard=unmap,file.driver=nbd,file.server.type=unix,file.server.path=${join(folder, 'nbd.sock')}`,
  '-device',
  `virtio-blk-pci,drive=d0,logical_block_size=${SECTOR_BYTES},physical_block_size=${SECTOR_BYTES}`,
];

/**
 * Boots, lets the guest sync some files, and cuts the power at the nth write after.
 * @returns the number of the last file that was synced
 */
async function workAndCut(machine, append, checked, nth) {
  let synced = checked;
  let isCutSet = false;
  const guest = boot(machine, DISK, append, (line) => {
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
  if (status !== 0)
    throw new Error(`e2fsck -fn ended with ${status}: ${stdout.trim().split('\n').slice(-5).join('; ')}`);
}

/**
 * Lets the guest work and cuts its power, decides what is left, judges that, and switches the disk on.
 * @param resolution ctl's options
 */
async function traced(name, resolution, work) {
  const [trace, image] = [join(cuts, `${name}.trace`), join(cuts, `${name}.img`)];
  ctl('trace-start', trace);
  const synced = await work();
  const { lostSectors } = ctl('resolve', ...resolution);
  ctl('trace-stop');
  ctl('save', image);
  ctl('on');
  return { synced, lostSectors, judge: () => judgeCut(trace, image) };
}

async function soundDisk(machine) {
  await serve();
  let synced = 0;
  let lost = 0;
  for (let round = 1; round <= CUTS; round++) {
    const append = round === 1 ? 'first=1' : `check=${synced}`;
    const before = synced;
    const cut = await traced(`cut-${round}`, ['--seed', String(SEED + round)], () =>
      workAndCut(machine, append, before, SEED + round * 2),
    );
    const undecided = cut.judge();
    synced = cut.synced;
    lost += cut.lostSectors;
    console.log(`         cut ${round}: ${synced} files synced, of ${undecided} sectors ${cut.lostSectors} lost`);
  }
  const { lines } = await boot(machine, DISK, `check=${synced} last=1`).ended;
  if (!lines.some((line) => line.includes('GUEST-DONE'))) throw new Error(`the guest: ${lines.slice(-8).join(' | ')}`);
  fsck('after');
  await stop();
  return `${synced} synced files are there after ${CUTS} cuts, ${lost} sectors lost, e2fsck finds nothing`;
}

async function lyingDisk(machine) {
  await serve();
  ctl('fault', 'lying-flush');
  const { synced, judge } = await traced('lying', ['--lost'], () => workAndCut(machine, 'first=1', 0, 3));
  let verdict = 'that all is well';
  try {
    judge();
  } catch (error) {
    verdict = error.message;
  }
  if (!/neither what was durable/.test(verdict)) throw new Error(`the disk lied, and its judge says ${verdict}`);
  const { lines } = await boot(machine, DISK, `check=${synced} last=1`).ended;
  await stop();
  const fault = lines.find((line) => /GUEST-(FAILED|LOST)/.test(line));
  if (fault === undefined) throw new Error(`${synced} files were synced to a disk that lies, and all are there`);
  return `noticed: ${/GUEST-\w+ \S+/.exec(fault)[0]}`;
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
    count.skipped = 2;
    console.log(`skipped  a Linux guest over NBD (${why})`);
  } else {
    await check('a Linux guest over NBD, ext4', () => soundDisk(machine));
    await check('the same on a disk that lies about flushes fails', () => lyingDisk(machine));
  }
} finally {
  server?.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
}
console.log(`guest: ${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`);
if (count.failed > 0) process.exitCode = 1;
