import type { BlockDevice } from '../../blockdev/index.ts';
import { CodedError, codeOf, viewOf } from '../../core/index.ts';
import type { KeyValueOp } from '../../explore/index.ts';
import type { MediaZone } from '../../faults/index.ts';
import { getText, isSealed, putText, SEALED_AT, SECTOR, seal } from './sealed.ts';
import { type SlotRules, SuperblockSlots, soundSlots } from './slots.ts';
import { changesOf, type Found, type OpenStore, type Store } from './store.ts';

/** What makes the root-switching store sound; the benchmark takes one away. */
export interface RootRules extends SlotRules {
  /** Blocks of the root on disk are not reused before another one is. */
  readonly sparesOld: boolean;
  /** The checksum of a block covers its address. */
  readonly coversAddress: boolean;
}

export const soundRoot: RootRules = { ...soundSlots, sparesOld: true, coversAddress: true };

const ROOT_SECTORS = 2;
const BLOCKS = 4;
const BLOCK_COUNT = 12;
/** Where the blocks are. */
export const ROOT_BLOCKS: MediaZone = { firstSector: BLOCKS, sectorCount: BLOCK_COUNT };
const MAGIC = 0x4b43_4c42;
const BLOCK_GENERATION_AT = SEALED_AT;
const BLOCK_BYTES_AT = SEALED_AT + 4;
const BLOCK_VALUE_AT = SEALED_AT + 8;
/** Pointers stand in the second sector, away from the checksum: half a root is none. */
const POINTERS_AT = SECTOR;
const POINTER_BYTES = 100;
const MAX_POINTERS = 4;

/** Where a value is, and which one it is: a block that holds another generation is not the one. */
interface Pointer {
  readonly block: number;
  readonly generation: number;
}

/** Values in blocks that are never overwritten while a root names them; a root of two sectors in two copies. */
export function rootStore(rules: RootRules = soundRoot): Store {
  return {
    name: 'root-switching store',
    sectorCount: BLOCKS + BLOCK_COUNT,
    format(device) {
      const root = new SuperblockSlots(device, 0, ROOT_SECTORS, rules.hasTwoCopies ? soundSlots : rules);
      root.store();
      if (rules.hasTwoCopies) root.store();
    },
    open: (device) => new RootStore(device, rules),
  };
}

class RootStore implements OpenStore {
  hasLatched = false;
  readonly #device: BlockDevice;
  readonly #rules: RootRules;
  readonly #root: SuperblockSlots;
  #pointers: ReadonlyMap<string, Pointer>;
  #hasLife = false;

  constructor(device: BlockDevice, rules: RootRules) {
    this.#device = device;
    this.#rules = rules;
    this.#root = new SuperblockSlots(device, 0, ROOT_SECTORS, rules);
    if (!this.#root.load()) throw new CodedError('EINTEGRITY', 'root-switching store: no root is whole');
    this.#pointers = this.#readPointers();
  }

  apply(op: KeyValueOp): void {
    if (this.hasLatched) throw new CodedError('EIO', 'root-switching store: a write has failed: open it again');
    this.hasLatched = true;
    this.#openLife();
    const pointers = new Map(this.#pointers);
    const taken = new Set<number>();
    const generation = this.#root.generation + 1;
    for (const change of changesOf(op)) {
      pointers.delete(change.key);
      if (change.kind === 'delete') continue;
      const block = this.#freeBlock(pointers, taken);
      taken.add(block);
      this.#device.write(BLOCKS + block, this.#seal(block, generation, change.value));
      pointers.set(change.key, { block, generation });
    }
    this.#device.flush();
    this.#writePointers(pointers);
    this.#root.store();
    this.#pointers = pointers;
    this.hasLatched = false;
  }

  checkpoint(): void {}

  find(): Found {
    const values = new Map<string, Uint8Array>();
    const damaged = new Set<string>();
    for (const [key, pointer] of this.#pointers) {
      const value = this.#read(pointer);
      if (value === undefined) damaged.add(key);
      else values.set(key, value);
    }
    return { values, damaged, hasUnknownLoss: false, refused: undefined };
  }

  close(): void {}

  /** A generation that a cut took back is never given to other blocks: each use starts with one of its own. */
  #openLife(): void {
    if (!this.#hasLife) this.#root.store();
    this.#hasLife = true;
  }

  #freeBlock(pointers: ReadonlyMap<string, Pointer>, taken: ReadonlySet<number>): number {
    const used = new Set([...pointers.values()].map(({ block }) => block));
    if (this.#rules.sparesOld) for (const { block } of this.#pointers.values()) used.add(block);
    for (let block = 0; block < BLOCK_COUNT; block++) if (!used.has(block) && !taken.has(block)) return block;
    throw new CodedError('ENOSPC', 'root-switching store: it is full');
  }

  #seal(block: number, generation: number, value: Uint8Array): Uint8Array {
    const bytes = new Uint8Array(SECTOR);
    const view = viewOf(bytes);
    view.setUint32(BLOCK_GENERATION_AT, generation, true);
    view.setUint32(BLOCK_BYTES_AT, value.length, true);
    bytes.set(value, BLOCK_VALUE_AT);
    seal(bytes, MAGIC, this.#seedOf(block));
    return bytes;
  }

  #seedOf(block: number): number {
    return this.#rules.coversAddress ? block : 0;
  }

  #read({ block, generation }: Pointer): Uint8Array | undefined {
    const bytes = new Uint8Array(SECTOR);
    try {
      this.#device.read(BLOCKS + block, bytes);
    } catch (error) {
      if (codeOf(error) !== 'EIO') throw error;
      return undefined;
    }
    const view = viewOf(bytes);
    if (!isSealed(bytes, MAGIC, this.#seedOf(block))) return undefined;
    if (view.getUint32(BLOCK_GENERATION_AT, true) !== generation) return undefined;
    return bytes.slice(BLOCK_VALUE_AT, BLOCK_VALUE_AT + view.getUint32(BLOCK_BYTES_AT, true));
  }

  #readPointers(): Map<string, Pointer> {
    const pointers = new Map<string, Pointer>();
    const { bytes } = this.#root;
    const view = viewOf(bytes);
    for (let i = 0; i < MAX_POINTERS; i++) {
      const at = POINTERS_AT + i * POINTER_BYTES;
      const keyBytes = view.getUint8(at);
      if (keyBytes === 0) continue;
      const pointer = { block: view.getUint32(at + 4, true), generation: view.getUint32(at + 8, true) };
      pointers.set(getText(bytes, at + 12, keyBytes), pointer);
    }
    return pointers;
  }

  #writePointers(pointers: ReadonlyMap<string, Pointer>): void {
    const { bytes } = this.#root;
    const view = viewOf(bytes);
    if (pointers.size > MAX_POINTERS)
      throw new CodedError('ENOSPC', `root-switching store: ${MAX_POINTERS} keys at most`);
    bytes.fill(0, POINTERS_AT);
    for (const [i, [key, { block, generation }]] of [...pointers].entries()) {
      const at = POINTERS_AT + i * POINTER_BYTES;
      view.setUint8(at, key.length);
      view.setUint32(at + 4, block, true);
      view.setUint32(at + 8, generation, true);
      putText(bytes, at + 12, key);
    }
  }
}
