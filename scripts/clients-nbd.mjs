// Drives `powercut serve nbd` with clients that nobody here wrote: nbdinfo, nbdcopy, qemu-img, qemu-io, fio. Prints one
// line a check, and `clients: N passed, N failed, N skipped` at the end. Build first: npm run build.
//
//   node scripts/clients-nbd.mjs [--seconds 30] [--no-install]
//
// What is missing is installed from Debian's packages where that is possible (root and apt-get); a check whose tool is
// missing all the same is skipped, with that reason.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { ftruncateSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, statSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const MAIN = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const PACKAGES = {
  nbdinfo: 'libnbd-bin',
  nbdcopy: 'libnbd-bin',
  'qemu-io': 'qemu-utils',
  'qemu-img': 'qemu-utils',
  fio: 'fio',
};
const MiB = 1024 * 1024;
const TIMEOUT_MS = 180_000;

const { values: options } = parseArgs({
  options: { seconds: { type: 'string', default: '30' }, 'no-install': { type: 'boolean', default: false } },
});
const SECONDS = Number(options.seconds);
if (!Number.isInteger(SECONDS) || SECONDS < 1)
  throw new Error(`--seconds: expected a whole number, got ${options.seconds}`);

const folder = mkdtempSync(join(tmpdir(), 'powercut-clients-'));
const servers = new Set();
const count = { passed: 0, failed: 0, skipped: 0 };

/** Runs one check; it throws where it fails. */
async function check(name, tools, body) {
  const missing = tools.find((tool) => !has(tool));
  if (missing !== undefined) {
    count.skipped++;
    console.log(`skipped  ${name} (there is no ${missing}: Debian's package ${PACKAGES[missing]})`);
    return;
  }
  try {
    const remark = await body();
    count.passed++;
    console.log(`ok       ${name}${remark === undefined ? '' : `: ${remark}`}`);
  } catch (error) {
    count.failed++;
    console.log(`FAILED   ${name}\n${String(error.message).replace(/^/gm, '         ')}`);
  }
}

function has(tool) {
  return spawnSync('sh', ['-c', `command -v ${tool}`]).status === 0;
}

/** Runs a program to its end. @returns its standard output */
function run(program, ...args) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { timeout: TIMEOUT_MS, stdio: ['ignore', 'pipe', 'pipe'] });
    let out = '';
    let err = '';
    child.stdout.on('data', (chunk) => {
      out += chunk;
    });
    child.stderr.on('data', (chunk) => {
      err += chunk;
    });
    child.on('error', reject);
    child.on('close', (code, signal) => {
      if (code === 0) resolve(out);
      else
        reject(
          new Error(`${program} ${args.join(' ')}\nended with ${signal ?? code}\n${out}${err}`.trim().slice(-3000)),
        );
    });
  });
}

function expect(isSo, message) {
  if (!isSo) throw new Error(message);
}

let serverCount = 0;

/** Starts a server; resolves when it says that it is ready. */
function serve(...args) {
  const control = join(folder, `ctl${serverCount++}.sock`);
  const child = spawn(process.execPath, [MAIN, 'serve', 'nbd', '--json', '--control', control, ...args]);
  servers.add(child);
  return new Promise((resolve, reject) => {
    let said = '';
    child.stderr.on('data', (chunk) => {
      said += chunk;
    });
    child.on('exit', (code) => {
      servers.delete(child);
      reject(new Error(`the server ended with ${code}: ${said}`));
    });
    child.stdout.once('data', (line) => {
      const { uri } = JSON.parse(String(line));
      const ctl = async (...words) =>
        JSON.parse(await run(process.execPath, MAIN, 'ctl', '--control', control, '--json', ...words));
      const stop = async () => {
        const ended = new Promise((done) => child.on('exit', done));
        await ctl('stop');
        expect((await ended) === 0, `the server did not end well: ${said}`);
      };
      resolve({ uri, ctl, stop });
    });
  });
}

const unix = () => ['--socket', join(folder, `nbd${serverCount}.sock`)];

async function served(args, body) {
  const server = await serve(...args);
  try {
    return await body(server);
  } finally {
    await server.stop();
  }
}

/** A file of `sizeBytes` that is data and holes in turn. */
function makeImage(name, sizeBytes) {
  const path = join(folder, name);
  const fd = openSync(path, 'w');
  const random = openSync('/dev/urandom', 'r');
  const block = Buffer.alloc(MiB);
  for (let at = 0; at < sizeBytes; at += 2 * MiB) {
    readSync(random, block);
    writeSync(fd, block, 0, Math.min(MiB, sizeBytes - at), at);
  }
  ftruncateSync(fd, sizeBytes);
  return path;
}

const digest = (path) => createHash('sha256').update(readFileSync(path)).digest('hex');
/**
 * qemu-io, its commands one after the other; a pattern that does not match makes it fail. `writeback`: without it each
 * write has FUA, and nothing is ever lost.
 */
const qemuIo = (uri, ...commands) =>
  run('qemu-io', '-t', 'writeback', '-f', 'raw', ...commands.flatMap((command) => ['-c', command]), uri);

async function install() {
  const missing = Object.entries(PACKAGES).filter(([tool]) => !has(tool));
  if (missing.length === 0 || options['no-install'] || process.getuid?.() !== 0 || !has('apt-get')) return;
  const packages = [...new Set(missing.map(([, name]) => name))];
  console.log(`installing ${packages.join(', ')}`);
  spawnSync('apt-get', ['update', '-qq'], { stdio: 'ignore' });
  spawnSync('apt-get', ['install', '-qq', '-y', '--no-install-recommends', ...packages], {
    stdio: 'ignore',
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  });
}

async function checkInfo() {
  await check('nbdinfo sees size, block sizes and abilities', ['nbdinfo'], () =>
    served([...unix(), '--size', '64M', '--export-name', 'disk'], async ({ uri }) => {
      const {
        exports: [found],
        protocol,
      } = JSON.parse(await run('nbdinfo', '--json', uri));
      expect(protocol === 'newstyle-fixed', `protocol ${protocol}`);
      expect(found['export-size'] === 64 * MiB, `size ${found['export-size']}`);
      expect(found['block_size_minimum'] === 512 && found['block_size_maximum'] === 32 * MiB, 'block sizes');
      expect(found.contexts.includes('base:allocation'), 'no base:allocation');
      for (const ability of ['cache', 'df', 'fast_zero', 'flush', 'fua', 'multi_conn', 'trim', 'zero'])
        expect(found[`can_${ability}`] === true, `can_${ability} is ${found[`can_${ability}`]}`);
      const listed = JSON.parse(await run('nbdinfo', '--list', '--json', uri));
      expect(listed.exports.length === 1 && listed.exports[0]['export-name'] === 'disk', 'the list');
    }),
  );
}

async function checkCopies() {
  const source = makeImage('source.img', 64 * MiB + 512);
  const wanted = digest(source);
  const kinds = [
    ['in memory, nvme-512, Unix socket', () => [...unix(), '--size', String(64 * MiB + 512)]],
    ['in memory, no cache, TCP', () => ['--port', '0', '--size', String(64 * MiB + 512), '--profile', 'none']],
    [
      'an image, 512e',
      () => [...unix(), '--image', join(folder, 'served.img'), '--size', String(64 * MiB + 512), '--profile', '512e'],
    ],
  ];
  for (const [name, args] of kinds) {
    await check(`nbdcopy both ways, ${name}`, ['nbdcopy'], () =>
      served(args(), async ({ uri }) => {
        const back = join(folder, 'back.img');
        await run('nbdcopy', '--flush', '--connections=4', source, uri);
        await run('nbdcopy', '--connections=4', uri, back);
        expect(digest(back) === wanted, 'the checksums differ');
        rmSync(back);
        return 'equal checksums';
      }),
    );
  }
  await check('nbdinfo --map sees the holes', ['nbdinfo', 'nbdcopy'], () =>
    served([...unix(), '--size', '64M'], async ({ uri }) => {
      const image = makeImage('holes.img', 64 * MiB);
      await run('nbdcopy', '--flush', image, uri);
      const map = JSON.parse(await run('nbdinfo', '--map', '--json', uri));
      expect(map.filter(({ type }) => type === 3).length >= 31, `${map.length} extents`);
      expect(map.reduce((sum, { length }) => sum + length, 0) === 64 * MiB, 'the map has gaps');
      return `${map.length} extents`;
    }),
  );
  await check('qemu-img compares, and converts from it', ['qemu-img', 'nbdcopy'], () =>
    served([...unix(), '--size', '64M'], async ({ uri }) => {
      const image = makeImage('compare.img', 64 * MiB);
      await run('nbdcopy', image, uri);
      await run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', image, uri);
      const back = join(folder, 'converted.img');
      await run('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', uri, back);
      expect(digest(back) === digest(image), 'the checksums differ');
    }),
  );
}

async function checkPatterns() {
  for (const profile of ['nvme-512', '4kn', 'none']) {
    await check(`qemu-io patterns, zeros, discards, ${profile}`, ['qemu-io'], () =>
      served([...unix(), '--size', '64M', '--profile', profile], async ({ uri }) => {
        await qemuIo(
          uri,
          'write -P 0xaa 0 1M',
          'write -P 0xbb 1M 3M',
          'write -P 0xcc 4096 8k',
          'read -P 0xaa 0 4k',
          'read -P 0xcc 4k 8k',
          'read -P 0xbb 1M 3M',
          'write -z 64k 64k',
          'write -z -u 2M 1M',
          'read -P 0 64k 64k',
          'read -P 0 2M 1M',
          'read -P 0xbb 3M 1M',
          'discard 512k 256k',
          'flush',
          'write -f -P 0xdd 5000k 300k',
          'read -P 0xdd 5000k 300k',
          'aio_write -P 0x11 8M 2M',
          'aio_write -P 0x22 10M 2M',
          'aio_flush',
          'read -P 0x11 8M 2M',
          'read -P 0x22 10M 2M',
        );
        // On a connection of its own.
        await qemuIo(uri, 'read -P 0xaa 128k 384k', 'read -P 0 2M 1M', 'read -P 0x22 10M 2M');
      }),
    );
  }
}

async function checkFio() {
  for (const profile of ['nvme-512', 'none']) {
    await check(
      `fio verifies random reads and writes, depth 16, 4 connections, ${SECONDS} s, ${profile}`,
      ['fio'],
      () =>
        served([...unix(), '--size', '256M', '--profile', profile], async ({ uri, ctl }) => {
          const out = await run(
            'fio',
            '--name=verify',
            '--ioengine=nbd',
            `--uri=${uri}`,
            '--rw=randwrite',
            '--bsrange=512-64k',
            '--bs_unaligned=0',
            '--blockalign=512',
            '--iodepth=16',
            '--numjobs=4',
            '--size=64M',
            '--offset_increment=64M',
            '--time_based',
            `--runtime=${SECONDS}`,
            '--verify=crc32c',
            '--verify_fatal=1',
            '--verify_backlog=256',
            '--fsync=500',
            '--randrepeat=1',
            '--group_reporting',
            '--output-format=json',
          );
          const {
            jobs: [job],
          } = JSON.parse(out.slice(out.indexOf('{')));
          expect(job.error === 0, `fio says error ${job.error}`);
          expect(job.read.total_ios > 0 && job.write.total_ios > 0, 'nothing was verified');
          const { server } = await ctl('status');
          expect(server.requestsFailed === 0, `${server.requestsFailed} requests failed`);
          return `${job.write.total_ios} writes, ${job.read.total_ios} verified reads`;
        }),
    );
  }
}

async function checkCuts() {
  await check(
    'a cut in the midst of writes: what was flushed is there, and the disk comes back',
    ['qemu-io', 'nbdcopy'],
    () =>
      served([...unix(), '--size', '64M'], async ({ uri, ctl }) => {
        let lost = 0;
        for (let round = 1; round <= 5; round++) {
          await qemuIo(uri, `write -P ${round} 0 4M`, 'flush');
          await ctl('cut', '--nth', String(round * 3), '--of', 'write');
          const writes = Array.from({ length: 30 }, (_, i) => `write -P ${100 + round} ${4 + i}M 1M`);
          const failed = await qemuIo(uri, ...writes).then(
            () => undefined,
            (error) => error,
          );
          expect(failed !== undefined, 'every write succeeded, although the power failed');
          await ctl('wait', '--timeout', '10s');
          const report = await ctl('resolve', '--seed', String(round));
          lost += report.lostSectors;
          await ctl('on');
          await qemuIo(uri, `read -P ${round} 0 4M`);
        }
        expect(lost > 0, 'no cut lost anything');
        const [saved, copied] = [join(folder, 'saved.img'), join(folder, 'copied.img')];
        await ctl('save', saved);
        await run('nbdcopy', uri, copied);
        expect(digest(saved) === digest(copied), 'the image that was saved is not what clients read');
        return `5 cuts, ${lost} sectors lost`;
      }),
  );
  await check('a disk that lies about flushes is found out', ['qemu-io'], () =>
    served([...unix(), '--size', '64M'], async ({ uri, ctl }) => {
      await ctl('fault', 'lying-flush');
      await qemuIo(uri, 'write -P 7 0 1M', 'flush');
      await ctl('cut');
      await ctl('on', '--lost');
      const failed = await qemuIo(uri, 'read -P 7 0 1M').then(
        () => undefined,
        (error) => error,
      );
      expect(failed !== undefined, 'what was flushed is there, although the flush was a lie');
    }),
  );
  await check('an image file holds what a cut left', ['qemu-io'], async () => {
    const image = join(folder, 'survivor.img');
    await served([...unix(), '--image', image, '--size', '16M'], async ({ uri, ctl }) => {
      await qemuIo(uri, 'write -P 1 0 1M', 'flush');
      // qemu-io flushes before it ends.
      await ctl('cut', '--of', 'flush');
      await qemuIo(uri, 'write -P 2 0 512k').catch(() => undefined);
      await ctl('wait', '--timeout', '10s');
      await ctl('resolve', '--lost');
    });
    expect(statSync(image).size === 16 * MiB, 'the size of the image');
    expect(
      readFileSync(image)
        .subarray(0, MiB)
        .every((byte) => byte === 1),
      'not what was flushed',
    );
  });
}

try {
  await install();
  await checkInfo();
  await checkCopies();
  await checkPatterns();
  await checkFio();
  await checkCuts();
} finally {
  for (const child of servers) child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
}
console.log(`clients: ${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`);
if (count.failed > 0) process.exitCode = 1;
