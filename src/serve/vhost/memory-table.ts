import { messageOf } from '../../core/index.ts';
import { type MemoryRegion, RegionMemory } from '../../virtio/index.ts';
import type { Host, Mapping } from './host.ts';
import type { RegionFields } from './request.ts';

/** All guest memory together: more has no guest that this disk is for, and each piece is looked up in turn. */
const MEMORY_BYTES_MAX = 2 ** 38;

/** What the front end calls a region, in its own address space. */
interface UserRange {
  readonly userAddress: number;
  readonly sizeBytes: number;
  readonly guestAddress: number;
}

/**
 * Guest memory as a front end hands it over. What is in a table is checked against the files that came with it, and a
 * file that could be made shorter under us is refused: to touch what is not there any more ends the process.
 */
export class MemoryTable {
  /** The device's view of it. */
  readonly memory: RegionMemory = new RegionMemory();
  readonly #host: Host;
  readonly #allowsUnsealed: boolean;
  #ranges: readonly UserRange[] = [];
  #mappings: readonly Mapping[] = [];

  /** @param allowsUnsealed whether memory that the front end can take away again is good enough */
  constructor(host: Host, allowsUnsealed: boolean) {
    this.#host = host;
    this.#allowsUnsealed = allowsUnsealed;
  }

  get regionCount(): number {
    return this.#ranges.length;
  }

  /**
   * Puts a table in the place of the former one. Nobody may have a view of that by then.
   * @param fds a file for each region; they stay the caller's to close
   * @returns undefined, or why it was refused: the former table stays then
   */
  replace(regions: readonly RegionFields[], fds: readonly number[]): string | undefined {
    const why = whyNoTable(regions);
    if (why !== undefined) return why;
    const mappings: Mapping[] = [];
    const memory: MemoryRegion[] = [];
    for (const [i, region] of regions.entries()) {
      const mapping = this.#map(region, fds[i]!);
      if (typeof mapping === 'string') {
        unmapAll(mappings);
        return `region ${i}: ${mapping}`;
      }
      mappings.push(mapping);
      let base = region.guestAddress;
      for (const bytes of mapping.pieces) {
        memory.push({ base, bytes });
        base += bytes.length;
      }
    }
    try {
      this.memory.map(memory);
    } catch (error) {
      unmapAll(mappings);
      return messageOf(error);
    }
    unmapAll(this.#mappings);
    this.#mappings = mappings;
    this.#ranges = regions;
    return undefined;
  }

  /** The guest address of what lies at an address of the front end; -1 where none of its memory does. */
  toGuest(userAddress: number): number {
    for (const range of this.#ranges) {
      const offset = userAddress - range.userAddress;
      if (offset >= 0 && offset < range.sizeBytes) return range.guestAddress + offset;
    }
    return -1;
  }

  /** Gives all of it back. */
  clear(): void {
    this.memory.map([]);
    unmapAll(this.#mappings);
    this.#mappings = [];
    this.#ranges = [];
  }

  #map({ mmapOffset, sizeBytes }: RegionFields, fd: number): Mapping | string {
    const why = whyNotMappable(this.#host, fd, mmapOffset, sizeBytes, this.#allowsUnsealed);
    return why ?? this.#host.map(fd, mmapOffset, sizeBytes) ?? `its ${sizeBytes} bytes can't be mapped`;
  }
}

/** Why a part of a file can't be mapped without danger, or undefined. */
export function whyNotMappable(
  host: Host,
  fd: number,
  offsetBytes: number,
  lengthBytes: number,
  allowsUnsealed: boolean,
): string | undefined {
  const file = host.inspect(fd);
  if (file?.kind !== 'file') return 'its file descriptor is no file that can be mapped';
  if (offsetBytes < 0 || lengthBytes < 1 || lengthBytes > file.sizeBytes - offsetBytes) {
    return `expected a part of its file of ${file.sizeBytes} bytes, got ${lengthBytes} from ${offsetBytes} on`;
  }
  if (host.seal(fd) || allowsUnsealed) return undefined;
  return 'its file could be made shorter, which would end this process: use memory-backend-memfd, or --allow-unsealed';
}

function whyNoTable(regions: readonly RegionFields[]): string | undefined {
  let totalBytes = 0;
  for (const [i, { guestAddress, sizeBytes, userAddress }] of regions.entries()) {
    const isRange = [guestAddress, userAddress].every(
      (address) => address >= 0 && sizeBytes >= 1 && address <= Number.MAX_SAFE_INTEGER - sizeBytes,
    );
    if (!isRange) return `region ${i}: expected ranges of 1 byte to 2^53, got ${sizeBytes} bytes`;
    totalBytes += sizeBytes;
    for (const other of regions.slice(0, i)) {
      if (userAddress < other.userAddress + other.sizeBytes && other.userAddress < userAddress + sizeBytes) {
        return `region ${i}: it overlaps another in the front end's addresses`;
      }
    }
  }
  return totalBytes > MEMORY_BYTES_MAX
    ? `expected up to ${MEMORY_BYTES_MAX} bytes in all, got ${totalBytes}`
    : undefined;
}

function unmapAll(mappings: readonly Mapping[]): void {
  for (const mapping of mappings) mapping.unmap();
}
