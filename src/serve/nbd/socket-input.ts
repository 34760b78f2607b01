import { Socket } from 'node:net';

/** Bytes that are read at once. */
const READ_BYTES = 256 * 1024;

/**
 * Takes a socket that a server accepted, paused, and has it read into one buffer again and again. By default Node makes
 * a buffer of 64 KiB for each read: at some 100 MB/s of writes the garbage collector then takes a third of the time.
 *
 * `onread` is a documented option of sockets that one makes oneself; that a socket can be made from the handle of an
 * accepted one is not. Where this version of Node has no such thing the socket is used as it is.
 * @param receive is given what came; the bytes are its only during the call, or until it resumes the socket that it paused
 * @returns the socket to use from now on
 */
export function readIntoOneBuffer(accepted: Socket, receive: (bytes: Uint8Array) => void): Socket {
  const inner = accepted as unknown as Inner;
  const handle = inner._handle;
  if (typeof handle?.useUserBuffer !== 'function') {
    accepted.on('data', (chunk: Buffer) => receive(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length)));
    accepted.resume();
    return accepted;
  }
  const buffer = new Uint8Array(READ_BYTES);
  const server = inner._server;
  inner._handle = null;
  inner._server = null;
  const onread = {
    buffer,
    callback: (count: number): boolean => {
      receive(buffer.subarray(0, count));
      return true;
    },
  };
  const options: object = { handle, onread };
  const socket = new Socket(options);
  // So that the server knows when its last connection has ended.
  (socket as unknown as Inner)._server = server;
  return socket;
}

interface Inner {
  _handle: { readonly useUserBuffer?: unknown } | null;
  _server: unknown;
}
