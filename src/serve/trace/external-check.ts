import { execFile } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, truncateSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BlockDevice } from '../../blockdev/index.ts';

/** The word in a command's arguments that stands for the image. */
export const IMAGE = '{image}';

/**
 * A recovery by a program that knows nothing of powercut: each disk that a cut leaves becomes an image file, and the
 * program says, by its exit code, whether that is all right. It reads every sector, so the explorer can't tell images
 * apart that differ only where nobody looks: use `--strategy random` or `bounded`.
 * @param command its `{image}` is replaced by the path
 * @returns for `recover` of a scenario; it throws what the program printed where that exits with anything but 0
 */
export function externalCheck(command: readonly [string, ...string[]]): (device: BlockDevice) => Promise<string> {
  return async (device) => {
    const folder = mkdtempSync(join(tmpdir(), 'powercut-'));
    try {
      const image = join(folder, 'disk.img');
      saveDevice(device, image);
      const [program, ...args] = command.map((word) => word.replaceAll(IMAGE, image)) as [string, ...string[]];
      await run(program, args, image);
      return 'accepted';
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  };
}

function run(program: string, args: readonly string[], image: string): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile(program, args, { maxBuffer: 16 * 1024 * 1024 }, (error, stdout, stderr) => {
      if (error === null) resolve();
      // The path differs from run to run, and a failure has to read the same each time.
      else
        reject(new Error(`${program}: ${lastLines(`${stdout}${stderr}` || error.message).replaceAll(image, IMAGE)}`));
    });
  });
}

function lastLines(text: string): string {
  return text.trim().split('\n').slice(-5).join('; ');
}

function saveDevice(device: BlockDevice, path: string): void {
  const piece = new Uint8Array(64 * 1024);
  const sizeBytes = device.sectorCount * device.sectorBytes;
  const fd = openSync(path, 'wx', 0o600);
  try {
    for (let at = 0; at < sizeBytes; at += piece.length) {
      const part = piece.subarray(0, Math.min(piece.length, sizeBytes - at));
      device.read(at / device.sectorBytes, part);
      if (part.some((byte) => byte !== 0)) writeSync(fd, part, 0, part.length, at);
    }
  } finally {
    closeSync(fd);
  }
  truncateSync(path, sizeBytes);
}
