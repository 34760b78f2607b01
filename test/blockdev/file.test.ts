import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { FileDevice, type FileIo, systemFileIo } from '../../src/blockdev/index.ts';
import { codeOf, messageOf } from '../../src/core/index.ts';

let folder = '';
let files = 0;
beforeAll(() => {
  folder = fs.mkdtempSync(join(tmpdir(), 'powercut-file-'));
});
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));
const newPath = () => join(folder, `${files++}.img`);

/** The code and message of what `run` throws. */
function refusal(run: () => unknown): { code: string | undefined; message: string; cause: unknown } {
  try {
    run();
  } catch (error) {
    return { code: codeOf(error), message: messageOf(error), cause: error instanceof Error ? error.cause : undefined };
  }
  return { code: undefined, message: 'nothing was thrown', cause: undefined };
}

function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: injected`), { code });
}

/** The machine's file system with some calls replaced. */
function io(overrides: Partial<FileIo>): FileIo {
  return { ...systemFileIo, ...overrides };
}

function failing(code: string): () => never {
  return () => {
    throw systemError(code);
  };
}

describe('create', () => {
  test('makes an image of the asked size, allocated and not sparse', () => {
    const path = newPath();
    const device = FileDevice.create(path, { sectorCount: 4000 });
    device.close();
    const { size, blocks } = fs.statSync(path);
    expect(size).toBe(4000 * 512);
    // st_blocks counts units of 512 bytes (POSIX leaves the unit open; Linux and macOS use this one).
    if (process.platform !== 'win32') expect(blocks * 512).toBeGreaterThanOrEqual(size);
  });

  test('the image is durable, and then its directory entry', () => {
    const calls: string[] = [];
    const spy = io({
      sync: (fd) => {
        calls.push('sync');
        systemFileIo.sync(fd);
      },
      syncParent: (path) => {
        calls.push('syncParent');
        systemFileIo.syncParent(path);
      },
    });
    FileDevice.create(newPath(), { sectorCount: 16, io: spy }).close();
    expect(calls).toEqual(['sync', 'syncParent']);
  });

  test('an existing file is kept, unless it is to be overwritten', () => {
    const path = newPath();
    fs.writeFileSync(path, 'precious');
    const { code, message, cause } = refusal(() => FileDevice.create(path, { sectorCount: 16 }));
    expect(code).toBe('EINVAL');
    expect(message).toMatch(/overwrite: true/);
    expect(codeOf(cause)).toBe('EEXIST');
    expect(fs.readFileSync(path, 'utf8')).toBe('precious');
    FileDevice.create(path, { sectorCount: 16, overwrite: true }).close();
    expect(fs.readFileSync(path).equals(Buffer.alloc(16 * 512))).toBe(true);
  });

  test('an image in use is not overwritten', () => {
    const path = newPath();
    const device = FileDevice.create(path, { sectorCount: 16 });
    device.write(0, new Uint8Array(512).fill(7));
    expect(refusal(() => FileDevice.create(path, { sectorCount: 4, overwrite: true })).code).toBe('EBUSY');
    const target = new Uint8Array(512);
    device.read(0, target);
    expect(target[511]).toBe(7);
    expect(fs.statSync(path).size).toBe(16 * 512);
    device.close();
  });

  test('an image for which there is no room is refused before anything is written, and before an old one is emptied', () => {
    const path = newPath();
    let written = 0;
    const tight = io({
      freeBytes: () => 9 * 512,
      write: (...args) => {
        written++;
        return systemFileIo.write(...args);
      },
    });
    const { code, message } = refusal(() => FileDevice.create(path, { sectorCount: 10, io: tight }));
    expect([code, fs.existsSync(path), written]).toEqual(['ENOSPC', false, 0]);
    expect(message).toMatch(/expected 5120 bytes of free space, got 4608: make a smaller image/);
    FileDevice.create(path, { sectorCount: 9, io: tight }).close();
    expect(refusal(() => FileDevice.create(path, { sectorCount: 19, io: tight, overwrite: true })).code).toBe('ENOSPC');
    expect(fs.statSync(path).size).toBe(9 * 512);
    // What the old one takes is given back; a file system that does not tell is tried.
    FileDevice.create(path, { sectorCount: 18, io: tight, overwrite: true }).close();
    const silent = io({ freeBytes: failing('ENOSYS') });
    FileDevice.create(newPath(), { sectorCount: 16, io: silent }).close();
    expect(refusal(() => FileDevice.create(newPath(), { sectorCount: 2 ** 40 })).code).toBe('ENOSPC');
  });

  test('an image that could not be completed is removed', () => {
    const full = io({ sync: failing('ENOSPC') });
    const path = newPath();
    const { code, message } = refusal(() => FileDevice.create(path, { sectorCount: 16, io: full }));
    expect([code, fs.existsSync(path)]).toEqual(['ENOSPC', false]);
    expect(message).toMatch(/free space/);
  });

  test('a file that could not even be emptied is left alone', () => {
    const path = newPath();
    fs.writeFileSync(path, 'precious');
    const refusing = io({ truncate: failing('EPERM') });
    expect(refusal(() => FileDevice.create(path, { sectorCount: 16, overwrite: true, io: refusing })).code).toBe(
      'EPERM',
    );
    expect(fs.readFileSync(path, 'utf8')).toBe('precious');
  });

  test('wrong arguments are refused before a file is made', () => {
    const path = newPath();
    expect(() => FileDevice.create(path, { sectorCount: 0 })).toThrow(RangeError);
    expect(() => FileDevice.create(path, { sectorCount: 8, sectorBytes: 500 })).toThrow(RangeError);
    expect(() => FileDevice.create(7 as never, { sectorCount: 8 })).toThrow(TypeError);
    expect(fs.existsSync(path)).toBe(false);
  });
});

describe('open', () => {
  test('physical sectors are 4096 bytes unless said otherwise', () => {
    const path = newPath();
    FileDevice.create(path, { sectorCount: 16 }).close();
    const usual = FileDevice.open(path);
    expect([usual.sectorBytes, usual.physicalSectorBytes, usual.sectorCount]).toEqual([512, 4096, 16]);
    usual.close();
    const small = FileDevice.open(path, { sectorBytes: 1024, physicalSectorBytes: 1024 });
    expect([small.sectorBytes, small.physicalSectorBytes, small.sectorCount]).toEqual([1024, 1024, 8]);
    small.close();
  });

  const notImages: [string, (path: string) => void, string, RegExp][] = [
    ['a path without a file', () => undefined, 'ENOENT', /create the image first/],
    ['a directory', (path) => fs.mkdirSync(path), 'EINVAL', /directory|regular file/],
    ['an empty file', (path) => fs.writeFileSync(path, ''), 'EINVAL', /empty file/],
    ['half a sector too much', (path) => fs.writeFileSync(path, Buffer.alloc(768)), 'EINVAL', /whole sectors of 512/],
    ['less than a sector', (path) => fs.writeFileSync(path, 'x'), 'EINVAL', /got 1 bytes/],
  ];

  test.each(notImages)('%s is refused, for writing and for reading', (_name, make, code, message) => {
    const path = newPath();
    make(path);
    for (const readOnly of [false, true]) {
      const got = refusal(() => FileDevice.open(path, { readOnly }));
      expect(got.code).toBe(code);
      expect(got.message).toMatch(message);
      expect(got.message).toContain(path);
    }
  });

  test('a path through a file is ENOENT', () => {
    const path = newPath();
    fs.writeFileSync(path, 'x');
    expect(refusal(() => FileDevice.open(join(path, 'child.img'))).code).toBe('ENOENT');
  });

  test('a file larger than any device is refused', () => {
    const path = newPath();
    FileDevice.create(path, { sectorCount: 16 }).close();
    const huge = io({ stat: () => ({ isFile: true, sizeBytes: 2 ** 52 }) });
    expect(refusal(() => FileDevice.open(path, { io: huge })).code).toBe('EINVAL');
  });

  test('what was refused is closed', () => {
    const closed: number[] = [];
    const spy = io({
      close: (fd) => {
        closed.push(fd);
        systemFileIo.close(fd);
      },
    });
    const path = newPath();
    fs.writeFileSync(path, 'x');
    refusal(() => FileDevice.open(path, { io: spy }));
    expect(closed.length).toBe(1);
  });

  const systemCodes: [string, string][] = [
    ['EACCES', 'EPERM'],
    ['EPERM', 'EPERM'],
    ['EROFS', 'EROFS'],
    ['EBUSY', 'EBUSY'],
    ['ENAMETOOLONG', 'EINVAL'],
    ['EMFILE', 'EIO'],
    ['EIO', 'EIO'],
  ];
  test.each(systemCodes)('the system error %s is %s, with its cause', (systemCode, code) => {
    const got = refusal(() => FileDevice.open(newPath(), { io: io({ open: failing(systemCode) }) }));
    expect([got.code, codeOf(got.cause)]).toEqual([code, systemCode]);
  });

  test('a read-only device reads what the file holds and leaves it alone', () => {
    const path = newPath();
    fs.writeFileSync(path, Buffer.alloc(1024, 9));
    fs.chmodSync(path, 0o400);
    const device = FileDevice.open(path, { readOnly: true });
    const target = new Uint8Array(1024);
    device.read(0, target);
    expect(target.every((byte) => byte === 9)).toBe(true);
    expect(refusal(() => device.write(0, target)).code).toBe('EROFS');
    device.flush();
    device.close();
  });
});

describe('transfers', () => {
  test('short reads and writes are continued', () => {
    const nibbling = io({
      read: (fd, target, offset, length, position) =>
        systemFileIo.read(fd, target, offset, Math.min(length, 100), position),
      write: (fd, source, offset, length, position) =>
        systemFileIo.write(fd, source, offset, Math.min(length, 300), position),
    });
    const device = FileDevice.create(newPath(), { sectorCount: 16, io: nibbling });
    const source = Uint8Array.from({ length: 5 * 512 }, (_, i) => i * 7);
    device.write(3, source);
    const target = new Uint8Array(7 * 512).fill(0xff);
    device.read(2, target);
    expect(target.subarray(512, 6 * 512)).toEqual(source);
    expect([target[0], target[511], target[6 * 512]]).toEqual([0, 0, 0]);
    device.close();
  });

  test('an image that was cut short under us is EIO, not zeros', () => {
    const path = newPath();
    const device = FileDevice.create(path, { sectorCount: 16 });
    fs.truncateSync(path, 8 * 512);
    const got = refusal(() => device.read(6, new Uint8Array(4 * 512)));
    expect(got.code).toBe('EIO');
    expect(got.message).toMatch(/cut short/);
    device.close();
  });

  test('a write that makes no headway is EIO, not an endless loop', () => {
    const path = newPath();
    FileDevice.create(path, { sectorCount: 16 }).close();
    const device = FileDevice.open(path, { io: io({ write: () => 0 }) });
    expect(refusal(() => device.write(0, new Uint8Array(512))).code).toBe('EIO');
    device.close();
  });

  test.each([
    ['ENOSPC', 'ENOSPC'],
    ['EIO', 'EIO'],
    ['EDQUOT', 'EDQUOT'],
    ['EFBIG', 'E2BIG'],
  ])('a write that fails with %s is %s', (systemCode, code) => {
    const path = newPath();
    FileDevice.create(path, { sectorCount: 16 }).close();
    const device = FileDevice.open(path, { io: io({ write: failing(systemCode) }) });
    expect(refusal(() => device.write(0, new Uint8Array(512))).code).toBe(code);
    expect(refusal(() => device.writeZeroes(0, 1)).code).toBe(code);
    device.close();
  });

  test('zeroing goes in bounded pieces', () => {
    const lengths: number[] = [];
    const spy = io({
      write: (fd, source, offset, length, position) => {
        lengths.push(length);
        return systemFileIo.write(fd, source, offset, length, position);
      },
    });
    const path = newPath();
    FileDevice.create(path, { sectorCount: 3000 }).close();
    const device = FileDevice.open(path, { io: spy });
    device.writeZeroes(1, 2998);
    expect(lengths.reduce((sum, length) => sum + length, 0)).toBe(2998 * 512);
    expect(Math.max(...lengths)).toBeLessThanOrEqual(256 * 1024);
    device.close();
  });

  test('flush and FUA reach the disk, plain writes wait', () => {
    let syncs = 0;
    const spy = io({
      syncData: (fd) => {
        syncs++;
        systemFileIo.syncData(fd);
      },
    });
    const device = FileDevice.create(newPath(), { sectorCount: 16, io: spy });
    const source = new Uint8Array(512);
    const counts = [syncs];
    device.write(0, source);
    device.write(0, source, { fua: false });
    device.discard(0, 1);
    device.writeZeroes(0, 1);
    counts.push(syncs);
    device.write(0, source, { fua: true });
    counts.push(syncs);
    device.flush();
    counts.push(syncs);
    device.close();
    expect(counts).toEqual([0, 0, 1, 2]);
  });
});

describe('after a flush that failed', () => {
  /** `fdatasync` fails once, then succeeds as Linux does: the pages were marked clean. */
  function failingOnce(): FileIo {
    let failed = false;
    return io({
      syncData: (fd) => {
        if (failed) return systemFileIo.syncData(fd);
        failed = true;
        throw systemError('EIO');
      },
    });
  }

  test.each([
    ['flush', (device: FileDevice) => device.flush()],
    ['a FUA write', (device: FileDevice) => device.write(0, new Uint8Array(512), { fua: true })],
  ])('%s: writes and flushes are EIO until the image is opened again', (_name, fail) => {
    const path = newPath();
    FileDevice.create(path, { sectorCount: 16 }).close();
    const device = FileDevice.open(path, { io: failingOnce() });
    const source = new Uint8Array(512).fill(1);
    device.write(2, source);
    expect(refusal(() => fail(device)).code).toBe('EIO');
    const changes = [
      () => device.flush(),
      () => device.write(0, source),
      () => device.write(0, source, { fua: true }),
      () => device.discard(0, 1),
      () => device.writeZeroes(0, 1),
      () => device.flush(),
    ];
    for (const change of changes) {
      const got = refusal(change);
      expect([got.code, codeOf(got.cause)]).toEqual(['EIO', 'EIO']);
      expect(got.message).toMatch(/earlier flush failed.*open it again/);
    }
    const target = new Uint8Array(512);
    device.read(2, target);
    expect(target).toEqual(source);
    device.close();
    const again = FileDevice.open(path);
    again.write(0, source);
    again.flush();
    again.close();
  });
});

describe('locks, in one process', () => {
  test('a writer keeps writers and readers out, until it is closed', () => {
    const path = newPath();
    const writer = FileDevice.create(path, { sectorCount: 16 });
    const second = refusal(() => FileDevice.open(path));
    expect(second.code).toBe('EBUSY');
    expect(second.message).toMatch(/close the other device or stop its process/);
    expect(refusal(() => FileDevice.open(path, { readOnly: true })).code).toBe('EBUSY');
    writer.close();
    FileDevice.open(path).close();
  });

  test('readers share an image, and keep writers out', () => {
    const path = newPath();
    FileDevice.create(path, { sectorCount: 16 }).close();
    const first = FileDevice.open(path, { readOnly: true });
    const second = FileDevice.open(path, { readOnly: true });
    expect(refusal(() => FileDevice.open(path)).code).toBe('EBUSY');
    first.close();
    expect(refusal(() => FileDevice.open(path)).code).toBe('EBUSY');
    second.close();
    FileDevice.open(path).close();
  });

  test('lock: false neither takes nor heeds a lock', () => {
    const path = newPath();
    const unlocked = FileDevice.create(path, { sectorCount: 16, lock: false });
    const locked = FileDevice.open(path);
    FileDevice.open(path, { lock: false }).close();
    unlocked.close();
    locked.close();
  });

  test('a machine without locks says so', () => {
    const path = newPath();
    FileDevice.create(path, { sectorCount: 16 }).close();
    expect(refusal(() => FileDevice.open(path, { io: io({ tryLock: failing('ENOLCK') }) })).code).toBe('EIO');
    FileDevice.open(path, { lock: false, io: io({ tryLock: failing('ENOLCK') }) }).close();
  });
});

describe('locks, across processes', () => {
  const script = fileURLToPath(new URL('./hold-image.mjs', import.meta.url));
  const children: ChildProcess[] = [];
  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
  });

  /** @returns the process, and what it said: 'open', or the code of its error. */
  async function hold(path: string, access: 'read' | 'write'): Promise<[ChildProcess, string]> {
    const child = spawn(process.execPath, [script, path, access], { stdio: ['pipe', 'pipe', 'inherit'] });
    children.push(child);
    const [said] = (await once(child.stdout, 'data')) as [Buffer];
    return [child, said.toString().trim()];
  }

  test('a second writer is EBUSY; the lock dies with its process', async () => {
    const path = newPath();
    FileDevice.create(path, { sectorCount: 16 }).close();
    const [child, said] = await hold(path, 'write');
    expect(said).toBe('open');
    expect(refusal(() => FileDevice.open(path)).code).toBe('EBUSY');
    expect(refusal(() => FileDevice.open(path, { readOnly: true })).code).toBe('EBUSY');
    child.kill('SIGKILL');
    await once(child, 'exit');
    FileDevice.open(path).close();
  });

  test('the other process is refused too, and readers share', async () => {
    const path = newPath();
    const writer = FileDevice.create(path, { sectorCount: 16 });
    const [[, writerSaid], [, readerSaid]] = await Promise.all([hold(path, 'write'), hold(path, 'read')]);
    expect([writerSaid, readerSaid]).toEqual(['EBUSY', 'EBUSY']);
    writer.close();
    const reader = FileDevice.open(path, { readOnly: true });
    expect((await hold(path, 'read'))[1]).toBe('open');
    reader.close();
  });
});

test('close reports what the system says, once', () => {
  const path = newPath();
  FileDevice.create(path, { sectorCount: 16 }).close();
  const device = FileDevice.open(path, {
    io: io({
      close: (fd) => {
        systemFileIo.close(fd);
        throw systemError('EIO');
      },
    }),
  });
  expect(refusal(() => device.close()).code).toBe('EIO');
  device.close();
});

test('a path with a zero byte is EINVAL: the disk is not to blame', () => {
  expect(refusal(() => FileDevice.open('a\0b')).code).toBe('EINVAL');
  expect(refusal(() => FileDevice.create('a\0b', { sectorCount: 8 })).code).toBe('EINVAL');
});
