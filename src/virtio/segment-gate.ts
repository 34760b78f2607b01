import type { DescriptorChain } from './chain.ts';
import type { GuestMemory } from './memory.ts';

/** One of the parts of a ring in guest memory. */
export interface RingPart {
  readonly name: string;
  readonly start: number;
  readonly lengthBytes: number;
  readonly align: number;
}

/** Descriptor area, driver area, device area (virtio 2.6). */
export type RingParts = readonly [RingPart, RingPart, RingPart];

/**
 * Why a ring cannot lie where the driver put it, or undefined. What wraps around 2^64 or lies above 2^53 has the address
 * -1 by now, which is outside memory.
 */
export function whyMisplaced(parts: readonly RingPart[], memory: GuestMemory): string | undefined {
  for (const [i, part] of parts.entries()) {
    if (part.start % part.align !== 0) return `the ${part.name} is not aligned to ${part.align} bytes`;
    if (!memory.contains(part.start, part.lengthBytes)) return `the ${part.name} lies outside guest memory`;
    for (const other of parts.slice(0, i)) {
      if (part.start < other.start + other.lengthBytes && other.start < part.start + part.lengthBytes) {
        return `the ${part.name} and the ${other.name} overlap`;
      }
    }
  }
  return undefined;
}

/** What a buffer passes on its way from a descriptor into a chain: it is in memory, not in the ring, in its place. */
export class SegmentGate {
  readonly #memory: GuestMemory;
  #descStart = 0;
  #descEnd = 0;
  #driverStart = 0;
  #driverEnd = 0;
  #deviceStart = 0;
  #deviceEnd = 0;

  constructor(memory: GuestMemory) {
    this.#memory = memory;
  }

  /** From here on, no writable buffer may touch these. */
  protect([desc, driver, device]: RingParts): void {
    this.#descStart = desc.start;
    this.#descEnd = desc.start + desc.lengthBytes;
    this.#driverStart = driver.start;
    this.#driverEnd = driver.start + driver.lengthBytes;
    this.#deviceStart = device.start;
    this.#deviceEnd = device.start + device.lengthBytes;
  }

  /** Adds a buffer to its stream; a bad one makes the chain a faulty one, and is touched by nobody. */
  add(chain: DescriptorChain, address: number, lengthBytes: number, writable: boolean): void {
    if (lengthBytes === 0) return;
    const hurts = writable ? this.#touchesRing(address, address + lengthBytes) : chain.writable.totalBytes > 0;
    if (hurts || this.#memory.reach(address) < lengthBytes) this.#addOther(chain, address, lengthBytes, writable);
    else if (writable) chain.writable.add(address, lengthBytes);
    else chain.readable.add(address, lengthBytes);
  }

  /** One that is not all in one region, or in the ring, or out of order. */
  #addOther(chain: DescriptorChain, address: number, lengthBytes: number, writable: boolean): void {
    // Readable ones come first (virtio 2.7.4.2, 2.8.17).
    if (!writable && chain.writable.totalBytes > 0) chain.faulty = true;
    this.#addAcross(chain, address, lengthBytes, writable);
  }

  #addInside(chain: DescriptorChain, address: number, lengthBytes: number, writable: boolean): void {
    // To serve a buffer in the ring's own memory would be to write the descriptor table (2.7.5.1).
    const reachable = !writable || !this.#touchesRing(address, address + lengthBytes);
    if (!reachable) chain.faulty = true;
    (writable ? chain.writable : chain.readable).add(reachable ? address : -1, lengthBytes);
  }

  /** A buffer may go on in the region behind its own; where there is none, the rest of it is outside. */
  #addAcross(chain: DescriptorChain, address: number, lengthBytes: number, writable: boolean): void {
    let at = address;
    for (let leftBytes = lengthBytes; leftBytes > 0; ) {
      const partBytes = Math.min(leftBytes, this.#memory.reach(at));
      if (partBytes === 0) {
        chain.faulty = true;
        (writable ? chain.writable : chain.readable).add(-1, leftBytes);
        return;
      }
      this.#addInside(chain, at, partBytes, writable);
      at += partBytes;
      leftBytes -= partBytes;
    }
  }

  #touchesRing(start: number, end: number): boolean {
    return (
      (start < this.#descEnd && end > this.#descStart) ||
      (start < this.#driverEnd && end > this.#driverStart) ||
      (start < this.#deviceEnd && end > this.#deviceStart)
    );
  }
}
