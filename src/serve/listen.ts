import { chmodSync, statSync, unlinkSync } from 'node:fs';
import { connect, type Server } from 'node:net';
import { assertSocketPath, CodedError, codeOf, messageOf } from '../core/index.ts';

/** Where a server listens: a Unix socket, or TCP. */
export type Address = { readonly path: string } | { readonly host: string; readonly port: number };

/**
 * Starts to listen. A Unix socket is for its owner only (mode 0600); one that a dead server left behind is replaced.
 * @returns the address, with the port that was given for port 0
 * @throws CodedError E2BIG for a path that is too long, EINVAL where the address can't be had, EBUSY where another server has it
 */
export async function listen(server: Server, address: Address): Promise<Address> {
  if ('path' in address) {
    assertSocketPath(address.path);
    await removeStale(address.path);
  }
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(listenError(error, address)));
    server.listen('path' in address ? { path: address.path } : { host: address.host, port: address.port }, resolve);
  });
  server.removeAllListeners('error');
  // A client that can't be accepted, for want of descriptors perhaps, is that client's loss.
  server.on('error', () => undefined);
  if ('path' in address) {
    chmodSync(address.path, 0o600);
    return address;
  }
  const bound = server.address();
  return { host: address.host, port: typeof bound === 'object' && bound !== null ? bound.port : address.port };
}

/** In words, for people. */
export function describeAddress(address: Address): string {
  if ('path' in address) return address.path;
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

/** Removes a socket that a dead server left behind. @throws CodedError EINVAL, EBUSY where there is something else */
export async function removeStale(path: string): Promise<void> {
  let isSocket: boolean;
  try {
    isSocket = statSync(path).isSocket();
  } catch {
    return;
  }
  if (!isSocket) throw new CodedError('EINVAL', `${path}: there is a file that is no socket: name another path`);
  if (await answers(path)) throw inUse(path);
  unlinkSync(path);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', (error) => resolve(codeOf(error) !== 'ECONNREFUSED'));
  });
}

function listenError(error: unknown, address: Address): CodedError {
  if (codeOf(error) === 'EADDRINUSE') return inUse(describeAddress(address));
  return new CodedError('EINVAL', `can't listen at ${describeAddress(address)}: ${messageOf(error)}`, { cause: error });
}

function inUse(where: string): CodedError {
  return new CodedError('EBUSY', `${where}: another server is there: stop it, or name another place`);
}
