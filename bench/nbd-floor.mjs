// The floor that Node's sockets set: an NBD server that does nothing but take requests and send replies of the right
// length. It has no disk, checks nothing, and answers reads with whatever its buffers hold. As the real one it reads into
// one buffer, and sends the replies to what came at once in one write. Started by nbd.mjs: the path of the socket, the size.
import { createServer } from 'node:net';
import { readIntoOneBuffer } from '../dist/serve/nbd/socket-input.js';

const [, , path, size] = process.argv;
const REQUEST_BYTES = 28;
const REPLY_BYTES = 16;
const OPTION_BYTES = 16;
/** Commands. */
const [READ, WRITE, DISCONNECT] = [0, 1, 2];
/** Options, and what is said to them. */
const [EXPORT_NAME, GO] = [1, 7];
const [ACK, INFO, UNSUPPORTED] = [1, 3, 2 ** 31 + 1];
/** Holds the longest reply of the benchmark. */
const BUFFER_BYTES = 1024 * 1024 + 64 * 1024;

class Connection {
  #socket;
  #rest = Buffer.alloc(0);
  #hasFlags = false;
  #isReady = false;
  /** Bytes of a write's payload that are still to come, and its cookie. */
  #payloadBytes = 0;
  #cookie = Buffer.alloc(8);
  #free = [];
  #out = undefined;
  #length = 0;

  constructor(accepted) {
    this.#socket = readIntoOneBuffer(accepted, (bytes) =>
      this.#take(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)),
    );
    this.#socket.on('error', () => undefined);
    // NBDMAGIC, IHAVEOPT; fixed newstyle, no zeroes.
    this.#socket.write(Buffer.from('4e42444d4147494349484156454f50540003', 'hex'));
  }

  #take(chunk) {
    let input = this.#rest.length > 0 ? Buffer.concat([this.#rest, chunk]) : chunk;
    if (!this.#isReady) input = this.#haggle(input);
    const rest = this.#isReady ? this.#serve(input) : input;
    this.#rest = rest.length > 0 ? Buffer.from(rest) : rest;
    this.#send();
  }

  #haggle(input) {
    if (!this.#hasFlags) {
      if (input.length < 4) return input;
      this.#hasFlags = true;
      input = input.subarray(4);
    }
    while (!this.#isReady && input.length >= OPTION_BYTES) {
      const end = OPTION_BYTES + input.readUInt32BE(12);
      if (input.length < end) break;
      const option = input.readUInt32BE(8);
      input = input.subarray(end);
      const info = Buffer.alloc(12);
      info.writeBigUInt64BE(BigInt(size), 2);
      // Has flags, takes flushes and FUA.
      info.writeUInt16BE(0b1101, 10);
      if (option === EXPORT_NAME) this.#socket.write(info.subarray(2));
      else this.#answer(option, option === GO ? INFO : UNSUPPORTED, option === GO ? info : Buffer.alloc(0));
      if (option === GO) this.#answer(option, ACK, Buffer.alloc(0));
      this.#isReady = option === GO || option === EXPORT_NAME;
    }
    return input;
  }

  #answer(option, type, data) {
    const header = Buffer.alloc(20);
    header.writeBigUInt64BE(0x3e889045565a9n, 0);
    header.writeUInt32BE(option, 8);
    header.writeUInt32BE(type, 12);
    header.writeUInt32BE(data.length, 16);
    this.#socket.write(Buffer.concat([header, data]));
  }

  /** @returns what is left of the input: less than a request */
  #serve(input) {
    let at = 0;
    for (;;) {
      if (this.#payloadBytes > 0) {
        const count = Math.min(this.#payloadBytes, input.length - at);
        this.#payloadBytes -= count;
        at += count;
        if (this.#payloadBytes > 0) break;
        this.#reply(this.#cookie, 0, 0);
      }
      if (input.length - at < REQUEST_BYTES) break;
      const type = input.readUInt16BE(at + 6);
      const length = input.readUInt32BE(at + 24);
      if (type === DISCONNECT) this.#socket.end();
      else if (type !== WRITE) this.#reply(input, at + 8, type === READ ? length : 0);
      else {
        input.copy(this.#cookie, 0, at + 8, at + 16);
        this.#payloadBytes = length;
      }
      at += REQUEST_BYTES;
    }
    return input.subarray(at);
  }

  #reply(input, cookieAt, dataBytes) {
    if (this.#length + REPLY_BYTES + dataBytes > BUFFER_BYTES) this.#send();
    this.#out ??= this.#free.pop() ?? Buffer.alloc(BUFFER_BYTES);
    this.#out.writeUInt32BE(0x67446698, this.#length);
    this.#out.writeUInt32BE(0, this.#length + 4);
    input.copy(this.#out, this.#length + 8, cookieAt, cookieAt + 8);
    this.#length += REPLY_BYTES + dataBytes;
  }

  #send() {
    if (this.#length === 0) return;
    const buffer = this.#out;
    this.#socket.write(buffer.subarray(0, this.#length), () => this.#free.push(buffer));
    this.#out = undefined;
    this.#length = 0;
  }
}

createServer({ pauseOnConnect: true }, (socket) => new Connection(socket)).listen(path);
