import { assertInteger, viewOf } from '../core/index.ts';
import { StateFsError } from '../statefs/index.ts';

/** One of the two system images that the boot loader may start. */
export type SlotName = 'a' | 'b';

export interface BootSlot {
  /** The bootable slot with the higher one is started; 0: not to be started. Up to 15. */
  readonly priority: number;
  /** Starts that are left to it before it is given up. Up to 7; 0 once it is healthy. */
  readonly triesLeft: number;
  /** It has come up, and said so. */
  readonly isHealthy: boolean;
}

/** What the boot loader goes by. Two slots never have the same priority, except for 0. */
export interface BootState {
  /** Goes up with each change. */
  readonly generation: number;
  readonly a: BootSlot;
  readonly b: BootSlot;
}

const MAX_PRIORITY = 15;
const MAX_TRIES = 7;
const EMPTY: BootSlot = { priority: 0, triesLeft: 0, isHealthy: false };

/** Whether the boot loader may start it. */
export function isBootable({ priority, triesLeft, isHealthy }: BootSlot): boolean {
  return priority > 0 && (isHealthy || triesLeft > 0);
}

/** The slot that is started next; undefined where there is none, which no operation here leads to. */
export function nextSlot({ a, b }: BootState): SlotName | undefined {
  const [canA, canB] = [isBootable(a), isBootable(b)];
  if (!canA && !canB) return undefined;
  if (canA && canB) return a.priority > b.priority ? 'a' : 'b';
  return canA ? 'a' : 'b';
}

/** A device as it leaves the factory: one image, known to be good. */
export function initialState(slot: SlotName): BootState {
  const good: BootSlot = { priority: MAX_PRIORITY, triesLeft: 0, isHealthy: true };
  return { generation: 1, a: slot === 'a' ? good : EMPTY, b: slot === 'b' ? good : EMPTY };
}

/**
 * An image is about to be written into the slot that is not running: it must not be started half-written.
 * @throws StateFsError EBUSY while another update is on trial: its slot is the only way back, or not yet trusted
 */
export function beginUpdate(state: BootState): { state: BootState; target: SlotName } {
  const current = trusted(state, 'begin an update');
  const target = other(current);
  return { state: changed(state, target, EMPTY), target };
}

/**
 * The image is there: it is started next, so many times, and then given up unless it is confirmed.
 * @param tries 1 to 7
 * @throws StateFsError EBUSY as {@link beginUpdate}; EINVAL where the slot still holds an image that may be started
 */
export function activate(state: BootState, tries: number): BootState {
  assertInteger(tries, 'tries', 1, MAX_TRIES);
  const current = trusted(state, 'activate an update');
  const target = other(current);
  if (state[target].priority !== 0) {
    throw new StateFsError('EINVAL', `activate: slot ${target} was not prepared: begin the update first`);
  }
  const lowered = { ...state, [current]: { ...state[current], priority: MAX_PRIORITY - 1 } };
  return changed(lowered, target, { priority: MAX_PRIORITY, triesLeft: tries, isHealthy: false });
}

/**
 * The device starts: which slot, and what has to be durable before it is started. A slot on trial has one try less; one
 * that has none left is given up, and the other one is started.
 * @throws StateFsError EINTEGRITY where there is nothing to start
 */
export function bootAttempt(state: BootState): { state: BootState; slot: SlotName } {
  const slot = nextSlot(state);
  if (slot === undefined) {
    throw new StateFsError('EINTEGRITY', 'boot: no slot can be started: install an image with the recovery tool');
  }
  const failed = other(slot);
  const isGivenUp = state[failed].priority > state[slot].priority;
  const rolledBack = isGivenUp ? changed(state, failed, EMPTY) : state;
  const { priority, triesLeft, isHealthy } = rolledBack[slot];
  if (isHealthy) return { state: rolledBack, slot };
  return { state: changed(rolledBack, slot, { priority, triesLeft: triesLeft - 1, isHealthy }), slot };
}

/**
 * The image that runs says that it is well: it stays.
 * @throws StateFsError EINVAL for a slot that was given up, or is not the one on trial
 */
export function confirm(state: BootState, slot: SlotName): BootState {
  const { priority, isHealthy } = state[slot];
  if (priority === 0 || priority < state[other(slot)].priority) {
    throw new StateFsError('EINVAL', `confirm: slot ${slot} is not on trial: it was given up, or never activated`);
  }
  return isHealthy ? state : changed(state, slot, { priority, triesLeft: 0, isHealthy: true });
}

/**
 * The image that runs says that it is not well: the other one is started next.
 * @throws StateFsError EINVAL where there is no other that is known to be good
 */
export function reject(state: BootState, slot: SlotName): BootState {
  const rest = state[other(slot)];
  // One on trial is no way back: it may turn out to be none.
  if (!isBootable(rest) || !rest.isHealthy) {
    throw new StateFsError('EINVAL', `reject: slot ${slot} is the only one that is known to start`);
  }
  return changed(state, slot, EMPTY);
}

/** The slot that is in use, where no update is on trial beside it. */
function trusted(state: BootState, doing: string): SlotName {
  const current = nextSlot(state);
  const isSettled =
    current !== undefined && state[current].isHealthy && state[current].priority > state[other(current)].priority;
  if (isSettled) return current;
  throw new StateFsError('EBUSY', `${doing}: an update is on trial: confirm it, reject it, or let its tries run out`);
}

function other(slot: SlotName): SlotName {
  return slot === 'a' ? 'b' : 'a';
}

function changed(state: BootState, slot: SlotName, to: BootSlot): BootState {
  return { ...state, generation: state.generation + 1, [slot]: to };
}

const MAGIC = 0x4342_4350;
const VERSION = 1;
const HEALTHY = 1;
/** Offsets of the record: magic, version, two slots of three bytes, generation. */
const AT = { magic: 0, version: 4, a: 5, b: 8, reserved: 11, generation: 12 } as const;
/** Bytes of a record. */
export const BOOT_RECORD_BYTES = 16;

/** The state as it is stored, in one value: so it changes as a whole. */
export function encodeBootState(state: BootState): Uint8Array {
  const record = new Uint8Array(BOOT_RECORD_BYTES);
  const view = viewOf(record);
  view.setUint32(AT.magic, MAGIC, true);
  record[AT.version] = VERSION;
  for (const slot of ['a', 'b'] as const) {
    const { priority, triesLeft, isHealthy } = state[slot];
    record.set([priority, triesLeft, isHealthy ? HEALTHY : 0], AT[slot]);
  }
  view.setUint32(AT.generation, state.generation, true);
  return record;
}

/** @throws StateFsError EINTEGRITY for bytes that {@link encodeBootState} did not write, or that leave no one choice */
export function decodeBootState(record: Uint8Array): BootState {
  if (record.length !== BOOT_RECORD_BYTES) damaged(`${record.length} bytes`);
  const view = viewOf(record);
  if (view.getUint32(AT.magic, true) !== MAGIC || record[AT.version] !== VERSION || record[AT.reserved] !== 0) {
    damaged('another format');
  }
  const state: BootState = {
    generation: view.getUint32(AT.generation, true),
    a: decodeSlot(record.subarray(AT.a, AT.b)),
    b: decodeSlot(record.subarray(AT.b, AT.reserved)),
  };
  if (state.a.priority === state.b.priority) damaged(`priority ${state.a.priority} twice`);
  if (nextSlot(state) === undefined) damaged('no slot that can be started');
  return state;
}

function decodeSlot(bytes: Uint8Array): BootSlot {
  const [priority = 0, triesLeft = 0, flags = 0] = bytes;
  if (priority > MAX_PRIORITY || triesLeft > MAX_TRIES || flags > HEALTHY) damaged('a value out of range');
  return { priority, triesLeft, isHealthy: flags === HEALTHY };
}

function damaged(got: string): never {
  throw new StateFsError('EINTEGRITY', `boot control: expected a record with one choice, got ${got}: restore it`);
}
