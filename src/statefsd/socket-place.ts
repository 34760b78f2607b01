/** Where sockets stand in the file system: made private, never in a place that another server serves. */
import { chmodSync, lstatSync, mkdirSync, mkdtempSync, renameSync, rmSync, type Stats, unlinkSync } from 'node:fs';
import { createConnection, type Server } from 'node:net';
import { join } from 'node:path';
import { assertSocketPath, CodedError, codeOf, messageOf } from '../core/index.ts';

const SOCKET_MODE = 0o600;
const DIRECTORY_MODE = 0o700;
/** Write permission of group and others. */
const SHARED_WRITE = 0o022;
/** Sticky bit, as on /tmp. */
const STICKY = 0o1000;

/** A socket of ours in the file system, told from one that somebody else puts there later. */
export interface SocketPlace {
  readonly path: string;
  readonly device: number;
  readonly inode: number;
}

/** Path of a subject's socket. @throws CodedError E2BIG where the system takes no such path */
export function socketPath(directory: string, subject: string): string {
  const path = join(directory, `${subject}.sock`);
  assertSocketPath(path);
  return path;
}

/**
 * Makes the directory of the sockets, or checks the one that is there: who can write to it can put another socket in
 * our place.
 * @throws CodedError EPERM, ENOENT, EINVAL
 */
export function prepareDirectory(directory: string): void {
  try {
    mkdirSync(directory, { mode: DIRECTORY_MODE });
    return;
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw placeError(error, `sockets ${directory}`);
  }
  const found = lstatSync(directory);
  if (!found.isDirectory()) {
    throw new CodedError('EINVAL', `sockets ${directory}: expected a directory: name another, or remove what is there`);
  }
  if ((found.mode & SHARED_WRITE) !== 0 && (found.mode & STICKY) === 0) {
    throw new CodedError(
      'EPERM',
      `sockets ${directory}: others may write to it, and could put a socket of their own there: chmod go-w ${directory}`,
    );
  }
}

/**
 * Has `server` listen at `path`, mode 0600 from the first moment: it is bound in a directory of its own, and moved.
 * A socket that nobody serves any more is replaced.
 * @throws CodedError EBUSY where somebody listens there, EINVAL for what is no socket, EPERM, EIO
 */
export async function listenAt(server: Server, directory: string, path: string): Promise<SocketPlace> {
  await checkFree(path);
  let privateDirectory: string;
  try {
    privateDirectory = mkdtempSync(join(directory, '.new-'));
  } catch (error) {
    throw placeError(error, `sockets ${directory}`);
  }
  const bound = join(privateDirectory, 's');
  try {
    assertSocketPath(bound);
    await listen(server, bound);
    chmodSync(bound, SOCKET_MODE);
    const { dev, ino } = lstatSync(bound);
    renameSync(bound, path);
    return { path, device: dev, inode: ino };
  } catch (error) {
    server.close();
    throw error instanceof CodedError ? error : placeError(error, path);
  } finally {
    rmSync(privateDirectory, { recursive: true, force: true });
  }
}

/** Removes a socket of ours, unless another one stands in its place. */
export function removeSocket(place: SocketPlace): void {
  const found = statOf(place.path);
  if (found !== undefined && found.dev === place.device && found.ino === place.inode) unlinkSync(place.path);
}

/** @throws CodedError EBUSY where somebody listens, EINVAL where no socket stands */
async function checkFree(path: string): Promise<void> {
  const found = statOf(path);
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new CodedError('EINVAL', `${path}: expected a socket or nothing, got another kind of file: remove it`);
  }
  if (await isServed(path)) {
    throw new CodedError('EBUSY', `${path}: another server listens there: stop it, or name another directory`);
  }
}

function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createConnection({ path });
    const settle = (served: boolean): void => {
      probe.destroy();
      resolve(served);
    };
    probe.on('connect', () => settle(true));
    // A full backlog (EAGAIN) and a lack of permission (EACCES) both mean that it is somebody's.
    probe.on('error', (error) => settle(codeOf(error) !== 'ECONNREFUSED' && codeOf(error) !== 'ENOENT'));
  });
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ path }, () => {
      server.removeListener('error', reject);
      resolve();
    });
  });
}

function statOf(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

function placeError(error: unknown, what: string): CodedError {
  const code = codeOf(error);
  const own = code === 'ENOENT' || code === 'EROFS' || code === 'ENOSPC' ? code : code === 'EACCES' ? 'EPERM' : 'EIO';
  return new CodedError(own, `${what}: ${messageOf(error)}`, { cause: error });
}
