import { getU64, viewOf } from '../../core/index.ts';
import {
  CONFIG_BYTES_MAX,
  CONFIG_HEADER_BYTES,
  FLAG_REPLY,
  FLAG_VERSION_MASK,
  HEADER_BYTES,
  PAYLOAD_BYTES_MAX,
  REGION_BYTES,
  REGIONS_MAX,
  REQUEST,
  VERSION,
  VRING_INDEX_MASK,
  VRING_NO_FD,
} from './protocol.ts';

/** A piece of guest memory as the front end describes it. A number is -1 where it is above 2^53 - 1. */
export interface RegionFields {
  readonly guestAddress: number;
  readonly sizeBytes: number;
  readonly userAddress: number;
  readonly mmapOffset: number;
}

/** Where the parts of a ring lie, as addresses in the front end; -1 for what is above 2^53 - 1. */
export interface RingAddressFields {
  readonly index: number;
  readonly flags: number;
  readonly desc: number;
  readonly used: number;
  readonly avail: number;
}

/** Shape and place of the area that tracks what is in flight. */
export interface InflightFields {
  readonly sizeBytes: number;
  readonly offsetBytes: number;
  readonly queueCount: number;
  readonly queueSize: number;
}

/** What a front end asks for. Every field was read and is of the right size; what it means has not been looked at. */
export type VhostRequest =
  | { readonly type: 'getFeatures' | 'setOwner' | 'resetOwner' | 'getProtocolFeatures' | 'getQueueNum' | 'resetDevice' }
  | { readonly type: 'setFeatures' | 'setProtocolFeatures'; readonly low: number; readonly high: number }
  | {
      readonly type: 'setVringNum' | 'setVringBase' | 'getVringBase' | 'setVringEnable';
      readonly index: number;
      readonly value: number;
    }
  | { readonly type: 'setVringKick' | 'setVringCall' | 'setVringErr'; readonly index: number; readonly hasFd: boolean }
  | { readonly type: 'setVringAddr'; readonly addresses: RingAddressFields }
  | { readonly type: 'setMemTable'; readonly regions: readonly RegionFields[] }
  | { readonly type: 'getConfig'; readonly offset: number; readonly sizeBytes: number }
  | { readonly type: 'setConfig'; readonly offset: number; readonly flags: number; readonly bytes: Uint8Array }
  | { readonly type: 'getInflightFd' | 'setInflightFd'; readonly inflight: InflightFields }
  /** Live migration's log: not offered. */
  | { readonly type: 'setLogBase' | 'setLogFd' }
  /** No request of ours. */
  | { readonly type: 'unknown'; readonly request: number };

/** The 12 bytes before every payload. */
export interface MessageHeader {
  readonly request: number;
  readonly flags: number;
  readonly payloadBytes: number;
}

const NAMES: ReadonlyMap<number, keyof typeof REQUEST> = new Map(
  Object.entries(REQUEST).map(([name, id]) => [id, name as keyof typeof REQUEST]),
);

/** A header, or in words what is wrong with it: then nothing that follows can be made sense of. */
export function parseHeader(bytes: Uint8Array): MessageHeader | string {
  if (bytes.length !== HEADER_BYTES) return `a header of ${bytes.length} bytes`;
  const view = viewOf(bytes);
  const [request, flags, payloadBytes] = [view.getUint32(0, true), view.getUint32(4, true), view.getUint32(8, true)];
  if ((flags & FLAG_VERSION_MASK) !== VERSION) return `version ${flags & FLAG_VERSION_MASK}: expected ${VERSION}`;
  if ((flags & FLAG_REPLY) !== 0) return 'a reply, where a request was expected';
  if (payloadBytes > PAYLOAD_BYTES_MAX)
    return `a payload of ${payloadBytes} bytes: expected up to ${PAYLOAD_BYTES_MAX}`;
  return { request, flags, payloadBytes };
}

/**
 * The request of a whole message, or in words what is wrong with its shape: the size of the payload, or how many file
 * descriptors came with it.
 */
export function parseRequest(header: MessageHeader, payload: Uint8Array, fdCount: number): VhostRequest | string {
  const name = NAMES.get(header.request);
  if (name === undefined) return { type: 'unknown', request: header.request };
  const request = parsePayload(name, payload);
  if (typeof request === 'string') return `${name}: ${request}`;
  const expectedFds = fdsOf(request);
  if (expectedFds >= 0 && fdCount !== expectedFds) {
    return `${name}: expected ${expectedFds} file descriptors, got ${fdCount}`;
  }
  return request;
}

/** -1: any number. */
function fdsOf(request: VhostRequest): number {
  switch (request.type) {
    case 'setMemTable':
      return request.regions.length;
    case 'setVringKick':
    case 'setVringCall':
    case 'setVringErr':
      return request.hasFd ? 1 : 0;
    case 'setInflightFd':
      return 1;
    case 'setLogBase':
    case 'setLogFd':
    case 'unknown':
      return -1;
    default:
      return 0;
  }
}

function parsePayload(type: keyof typeof REQUEST, payload: Uint8Array): VhostRequest | string {
  const view = viewOf(payload);
  switch (type) {
    case 'getFeatures':
    case 'setOwner':
    case 'resetOwner':
    case 'getProtocolFeatures':
    case 'getQueueNum':
    case 'resetDevice':
      return whySize(payload, 0) ?? { type };
    case 'setFeatures':
    case 'setProtocolFeatures':
      return whySize(payload, 8) ?? { type, low: view.getUint32(0, true), high: view.getUint32(4, true) };
    case 'setVringNum':
    case 'setVringBase':
    case 'getVringBase':
    case 'setVringEnable':
      return whySize(payload, 8) ?? { type, index: view.getUint32(0, true), value: view.getUint32(4, true) };
    case 'setVringKick':
    case 'setVringCall':
    case 'setVringErr':
      return whySize(payload, 8) ?? parseRingFd(type, view);
    case 'setVringAddr':
      return whySize(payload, 40) ?? { type, addresses: parseAddresses(view) };
    case 'setMemTable':
      return parseRegions(payload);
    case 'getConfig':
    case 'setConfig':
      return parseConfig(type, payload);
    case 'getInflightFd':
    case 'setInflightFd':
      return whySize(payload, INFLIGHT_BYTES, INFLIGHT_PADDED_BYTES) ?? { type, inflight: parseInflight(view) };
    case 'setLogBase':
    case 'setLogFd':
      return { type };
  }
}

function whySize(payload: Uint8Array, ...expected: number[]): string | undefined {
  if (expected.includes(payload.length)) return undefined;
  return `expected a payload of ${expected.join(' or ')} bytes, got ${payload.length}`;
}

function parseRingFd(type: 'setVringKick' | 'setVringCall' | 'setVringErr', view: DataView): VhostRequest {
  const value = view.getUint32(0, true);
  return { type, index: value & VRING_INDEX_MASK, hasFd: (value & VRING_NO_FD) === 0 };
}

/** Index, flags, then the addresses of descriptors, used ring, available ring, and log. */
function parseAddresses(view: DataView): RingAddressFields {
  return {
    index: view.getUint32(0, true),
    flags: view.getUint32(4, true),
    desc: getU64(view, 8),
    used: getU64(view, 16),
    avail: getU64(view, 24),
  };
}

function parseRegions(payload: Uint8Array): VhostRequest | string {
  const view = viewOf(payload);
  const count = payload.length < 8 ? -1 : view.getUint32(0, true);
  if (count < 0 || count > REGIONS_MAX) return `expected up to ${REGIONS_MAX} regions, got ${count}`;
  const why = whySize(payload, 8 + count * REGION_BYTES);
  if (why !== undefined) return why;
  const regions = Array.from({ length: count }, (_, i): RegionFields => {
    const at = 8 + i * REGION_BYTES;
    return {
      guestAddress: getU64(view, at),
      sizeBytes: getU64(view, at + 8),
      userAddress: getU64(view, at + 16),
      mmapOffset: getU64(view, at + 24),
    };
  });
  return { type: 'setMemTable', regions };
}

function parseConfig(type: 'getConfig' | 'setConfig', payload: Uint8Array): VhostRequest | string {
  if (payload.length < CONFIG_HEADER_BYTES) return `expected at least ${CONFIG_HEADER_BYTES} bytes`;
  const view = viewOf(payload);
  const [offset, sizeBytes, flags] = [view.getUint32(0, true), view.getUint32(4, true), view.getUint32(8, true)];
  if (sizeBytes > CONFIG_BYTES_MAX) return `expected up to ${CONFIG_BYTES_MAX} bytes, got ${sizeBytes}`;
  const why = whySize(payload, CONFIG_HEADER_BYTES + sizeBytes);
  if (why !== undefined) return why;
  if (type === 'getConfig') return { type, offset, sizeBytes };
  return { type, offset, flags, bytes: payload.slice(CONFIG_HEADER_BYTES) };
}

/** Two 64-bit numbers and two of 16 bits; QEMU sends its struct with the padding that C puts behind. */
const INFLIGHT_BYTES = 20;
const INFLIGHT_PADDED_BYTES = 24;

function parseInflight(view: DataView): InflightFields {
  return {
    sizeBytes: getU64(view, 0),
    offsetBytes: getU64(view, 8),
    queueCount: view.getUint16(16, true),
    queueSize: view.getUint16(18, true),
  };
}
