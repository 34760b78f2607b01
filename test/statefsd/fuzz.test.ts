import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Sfc32, viewOf } from '../../src/core/index.ts';
import { encode, wrap } from '../../src/envelope/index.ts';
import {
  decodeResponse,
  encodeRequest,
  FrameReader,
  LARGEST_FRAME_BYTES,
  OPERATION_NAMES,
  type Peer,
  type Session,
} from '../../src/statefsd/index.ts';
import { formattedDevice, payloadOf, World } from './helpers.ts';

const FRAMES = 100_000;
/** Frames to one connection, unless it is closed before. */
const FRAMES_A_CONNECTION = 200;
const SEED = 20_251_125;

/** What a frame got: an answer with its nonce, or the end of its connection. */
interface Received {
  readonly nonce: number;
  readonly status: string;
}

class FuzzPeer implements Peer {
  readonly pendingBytes = 0;
  readonly received: Received[] = [];
  isOver = false;

  send(frame: Uint8Array): void {
    // Every answer is one frame, whole and well-formed, whatever it answers.
    const reader = new FrameReader(LARGEST_FRAME_BYTES, LARGEST_FRAME_BYTES);
    reader.push(frame);
    const one = reader.next();
    if (one?.kind !== 'frame' || one.bytes.length !== frame.length) throw new Error('the server sent what is no frame');
    const response = decodeResponse(frame);
    if (typeof response === 'string') throw new Error(`the server sent what is no answer: ${response}`);
    this.received.push({ nonce: response.nonce, status: response.status });
  }

  pause(): void {}
  resume(): void {}

  end(): void {
    this.isOver = true;
  }

  destroy(): void {
    this.isOver = true;
  }
}

/** Makes frames: sound ones, the same with bytes changed, cut, lengthened, with a length that lies, and plain noise. */
class FrameMaker {
  readonly #prng: Sfc32;
  readonly #payload = payloadOf(64);
  readonly #envelope = encode(wrap(this.#payload, { subject: '', purpose: 'fuzz', ts: 1 }));
  readonly made = new Map<string, number>();

  constructor(seed: number) {
    this.#prng = new Sfc32(seed);
  }

  next(nonce: number): Uint8Array {
    const frame = this.#sound(nonce);
    const kinds = ['sound', 'bytes', 'bytes', 'cut', 'longer', 'length', 'word', 'noise'] as const;
    const kind = kinds[this.#prng.below(kinds.length)] as (typeof kinds)[number];
    this.made.set(kind, (this.made.get(kind) ?? 0) + 1);
    switch (kind) {
      case 'sound':
        return frame;
      case 'bytes':
        for (let i = this.#prng.below(4); i >= 0; i--)
          frame[4 + this.#prng.below(frame.length - 4)] = this.#prng.below(256);
        return frame;
      case 'cut':
        return this.#resized(frame, 16 + this.#prng.below(frame.length - 15));
      case 'longer':
        return this.#resized(frame, frame.length + 1 + this.#prng.below(40));
      case 'length':
        // The length alone lies: what follows is taken for a part of it, or for the next frame.
        viewOf(frame).setUint32(0, this.#length(), true);
        return frame;
      case 'word':
        viewOf(frame).setUint32(this.#prng.below(frame.length - 3), this.#length(), true);
        return frame;
      case 'noise': {
        const noise = new Uint8Array(4 + this.#prng.below(80));
        this.#prng.fill(noise);
        return noise;
      }
    }
  }

  #sound(nonce: number): Uint8Array {
    const path = ['/state/a', '/state/b/c', '/state/', 'x', `/state/${'y'.repeat(200)}`][this.#prng.below(5)] as string;
    const [envelope, payload] = [this.#envelope, this.#payload];
    const operation = OPERATION_NAMES[this.#prng.below(OPERATION_NAMES.length)] ?? 'get';
    const client = new Uint8Array(8).fill(this.#prng.below(3));
    const serial = this.#prng.below(3) * nonce;
    const fields = {
      ...{ path, client, serial, again: this.#prng.below(2) === 1, deadlineMs: this.#prng.below(2) * 1000 },
      ...{ envelope, payload, prefix: '/state/', after: '', limit: this.#prng.below(5) },
    };
    return encodeRequest(operation, nonce, fields);
  }

  #length(): number {
    return [0, 1, 11, 12, 40, 0xffff, 0x7fff_ffff, 0xffff_ffff, this.#prng.nextU32()][this.#prng.below(9)] as number;
  }

  /** Another length, and told so. */
  #resized(frame: Uint8Array, bytes: number): Uint8Array {
    const resized = new Uint8Array(bytes);
    resized.set(frame.subarray(0, bytes));
    viewOf(resized).setUint32(0, bytes - 4, true);
    return resized;
  }
}

/** One frame after the other until the connection is over. @returns how many were sent */
function talk(
  world: World,
  maker: FrameMaker,
  subject: string,
  firstNonce: number,
  statuses: Map<string, number>,
): number {
  const peer = new FuzzPeer();
  const admission = world.service.connect(subject, peer);
  if (!('session' in admission)) throw new Error(`a connection was refused: ${admission.refused}`);
  const session: Session = admission.session;
  let sent = 0;
  while (sent < FRAMES_A_CONNECTION && !peer.isOver) {
    const before = peer.received.length;
    const frame = maker.next(firstNonce + sent);
    session.receive(frame);
    sent++;
    world.timers.runDue();
    if (peer.isOver) break;
    if (peer.received.length > before) continue;
    // No answer: the server has a part of a frame, or reads past one. Neither stays: its time ends it.
    world.timers.advance(world.service.limits.frameTimeoutMs + 500);
    if (!peer.isOver)
      throw new Error(`a frame was neither answered nor its connection closed: ${[...frame].join(' ')}`);
  }
  for (const { status } of peer.received) statuses.set(status, (statuses.get(status) ?? 0) + 1);
  if (!peer.isOver) session.lost('done');
  return sent;
}

test(`${FRAMES} mutated and random frames: each is answered, or its connection closed; nothing is left behind`, () => {
  const world = new World({
    device: formattedDevice(60_000),
    service: { limits: { queuedRequests: 4, frameTimeoutMs: 500 } },
  });
  world.service.store.putAtomic('/state/a', payloadOf(64));
  const maker = new FrameMaker(SEED);
  const statuses = new Map<string, number>();
  let settledBytes = 0;
  for (let sent = 0, round = 0; sent < FRAMES; round++) {
    // One that may do everything, and one that may do nothing.
    sent += talk(world, maker, round % 2 === 0 ? 'root' : 'nobody', sent + 1, statuses);
    if (settledBytes === 0 && sent > FRAMES / 4) settledBytes = process.memoryUsage().arrayBuffers;
  }
  // The fuzz reached what it was to reach: every kind of frame was made, requests were carried out, and refused.
  expect([...maker.made.values()].every((count) => count > FRAMES / 20)).toBe(true);
  for (const status of ['OK', 'EPERM', 'ENOENT', 'EINVAL', 'EINTEGRITY', 'EPROTO']) {
    expect(statuses.get(status) ?? 0, status).toBeGreaterThan(20);
  }
  // No defect was met, no connection and no timer but the sweep is left, and memory does not grow with frames.
  expect(world.events.filter(({ type }) => type !== 'closed')).toEqual([]);
  expect(world.service.connectionCount).toBe(0);
  world.timers.advance(1000);
  expect(world.timers.size).toBe(0);
  expect(process.memoryUsage().arrayBuffers - settledBytes).toBeLessThan(16 * 1024 * 1024);
  // And the service still serves.
  const peer = new FuzzPeer();
  const admission = world.service.connect('root', peer);
  if ('session' in admission) admission.session.receive(encodeRequest('list', 7, { prefix: '', after: '', limit: 0 }));
  world.timers.runDue();
  expect(peer.received).toEqual([{ nonce: 7, status: 'OK' }]);
});

test('a server that swallows a frame is seen', () => {
  const world = new World({ service: { limits: { frameTimeoutMs: 1_000_000_000 } } });
  const maker = new FrameMaker(SEED);
  // A time-out that never comes stands for a server that is stuck on half a frame.
  expect(() => {
    for (let i = 0; i < 200; i++) {
      const peer = new FuzzPeer();
      const admission = world.service.connect('root', peer);
      if (!('session' in admission)) return;
      admission.session.receive(maker.next(i + 1).subarray(0, 10));
      world.timers.advance(2000);
      if (!peer.isOver && peer.received.length === 0) throw new Error('neither answered nor closed');
    }
  }).toThrow(/neither answered nor closed/);
});

test('any bytes, in any pieces, end in answers or the end of the connection', () => {
  const chunks = fc.array(fc.uint8Array({ maxLength: 64 }), { maxLength: 10 });
  fc.assert(
    fc.property(chunks, (pieces) => {
      const world = new World();
      const peer = new FuzzPeer();
      const admission = world.service.connect('root', peer);
      if (!('session' in admission)) throw new Error('refused');
      for (const piece of pieces) admission.session.receive(piece);
      world.timers.advance(12_000);
      expect(peer.isOver || pieces.every((piece) => piece.length === 0)).toBe(true);
    }),
    { numRuns: 100, seed: SEED },
  );
});
