import {
  CHUNK,
  CHUNK_BYTES,
  CHUNK_DONE,
  SIMPLE_REPLY_BYTES,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from './protocol.ts';
import type { ReplyBuffer } from './reply-stream.ts';
import type { Request } from './request.ts';

const encoder = new TextEncoder();
/** An error's text is for people: longer ones are cut. */
const MAX_MESSAGE_BYTES = 256;

/** The longest reply without data. */
export const MAX_HEADER_BYTES: number = CHUNK_BYTES + 14 + MAX_MESSAGE_BYTES;

/** A simple reply, or the header of one with data. */
export function putSimpleReply(buffer: ReplyBuffer, request: Request): void {
  const { view, length: at } = buffer;
  view.setUint32(at, SIMPLE_REPLY_MAGIC);
  view.setUint32(at + 4, request.error);
  view.setUint32(at + 8, request.cookieHigh);
  view.setUint32(at + 12, request.cookieLow);
  buffer.length = at + SIMPLE_REPLY_BYTES;
}

/** The header of a chunk of a structured reply; `payloadBytes` follow. */
export function putChunk(
  buffer: ReplyBuffer,
  request: Request,
  flags: number,
  type: number,
  payloadBytes: number,
): void {
  const { view, length: at } = buffer;
  view.setUint32(at, STRUCTURED_REPLY_MAGIC);
  view.setUint16(at + 4, flags);
  view.setUint16(at + 6, type);
  view.setUint32(at + 8, request.cookieHigh);
  view.setUint32(at + 12, request.cookieLow);
  view.setUint32(at + 16, payloadBytes);
  buffer.length = at + CHUNK_BYTES;
}

/** The header of a chunk with data from `offset` on; the data follow. */
export function putDataChunk(
  buffer: ReplyBuffer,
  request: Request,
  flags: number,
  offset: number,
  lengthBytes: number,
): void {
  putChunk(buffer, request, flags, CHUNK.offsetData, 8 + lengthBytes);
  putU64(buffer, offset);
}

/** "Reads as zeros". */
export function putHoleChunk(
  buffer: ReplyBuffer,
  request: Request,
  flags: number,
  offset: number,
  lengthBytes: number,
): void {
  putChunk(buffer, request, flags, CHUNK.offsetHole, 12);
  putU64(buffer, offset);
  putU32(buffer, lengthBytes);
}

/** The last chunk: the request failed. Its text is for people. */
export function putErrorChunk(buffer: ReplyBuffer, request: Request): void {
  const message = encoder.encode(request.message).subarray(0, MAX_MESSAGE_BYTES);
  putChunk(buffer, request, CHUNK_DONE, CHUNK.error, 6 + message.length);
  putU32(buffer, request.error);
  buffer.view.setUint16(buffer.length, message.length);
  buffer.bytes.set(message, buffer.length + 2);
  buffer.length += 2 + message.length;
}

export function putU32(buffer: ReplyBuffer, value: number): void {
  buffer.view.setUint32(buffer.length, value);
  buffer.length += 4;
}

function putU64(buffer: ReplyBuffer, value: number): void {
  putU32(buffer, Math.floor(value / 2 ** 32));
  putU32(buffer, value % 2 ** 32);
}
