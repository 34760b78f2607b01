import { createConnection } from 'node:net';
import { assertString } from '../core/index.ts';
import type { ChannelHandlers, Connector } from './channel.ts';
import { plainBytes } from './plain-bytes.ts';

/**
 * Connects to a server's socket. Who the client is, the socket says: each subject has one.
 * @param path of the socket, `DIR/SUBJECT.sock`
 */
export function unixSocket(path: string): Connector {
  assertString(path, 'path');
  return (handlers) => connect(path, handlers);
}

function connect(path: string, handlers: ChannelHandlers): () => void {
  const socket = createConnection({ path });
  let isOver = false;
  let reason = 'the server closed the connection';
  const giveUp = (): void => {
    isOver = true;
    socket.destroy();
  };
  socket.on('connect', () => {
    if (!isOver) handlers.opened({ write: (frame) => void socket.write(frame), close: giveUp });
  });
  socket.on('data', (bytes) => {
    if (!isOver) handlers.received(plainBytes(bytes));
  });
  socket.on('error', (error) => {
    reason = error.message;
  });
  socket.on('close', () => {
    if (isOver) return;
    isOver = true;
    handlers.closed(reason);
  });
  return giveUp;
}
