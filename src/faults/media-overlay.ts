import { type Choices, DeviceError } from '../core/index.ts';
import { FAULT_LABEL } from './choices.ts';
import type { DiskState } from './disk-state.ts';
import {
  type ActiveFault,
  describeFault,
  type MediaFault,
  type MediaFaultKind,
  type MediaOptions,
  type MediaState,
} from './media.ts';

/** What becomes of a write request. */
export interface WritePlan {
  /** Where it goes. */
  readonly sector: number;
  /** How many of its sectors are written, the first ones. */
  readonly sectorCount: number;
  /** It fails all the same. */
  readonly error: DeviceError | undefined;
}

/** What becomes of a flush: carried out; not, and nobody told; failed, what it was to write given up; failed only. */
export type FlushPlan =
  | { readonly outcome: 'done' | 'lie' }
  | { readonly outcome: 'abandon' | 'hang'; readonly error: DeviceError };

const DONE: FlushPlan = { outcome: 'done' };

/**
 * Is told of each fault before it takes effect, with the state of the medium from then on. What it throws keeps the
 * fault from happening.
 */
export type FaultListener = (fault: MediaFault, media: MediaState) => void;

/** Where an overlay takes things from; by default from the state. */
export interface OverlaySources {
  readonly choices?: Choices;
  /** What a sector held before its last write. */
  readonly previous?: (sector: number) => Uint8Array | undefined;
}

/** What becomes of a write under these faults, where there are any. */
export function planWrite(media: MediaOverlay | undefined, sector: number, sectorCount: number): WritePlan {
  return media === undefined ? { sector, sectorCount, error: undefined } : media.write(sector, sectorCount);
}

/** What becomes of a flush. */
export function planFlush(media: MediaOverlay | undefined): FlushPlan {
  return media === undefined ? DONE : media.flush();
}

/**
 * The faults of the medium under one use of a disk, from power on to power off. It decides, through the state's
 * `choices`, what goes wrong; what has gone wrong and stays so is in the state's `media`.
 *
 * A request asks when it is issued, and a sector when it is first read in this use. A sector that never held anything
 * has nothing to lose, and is not asked about.
 */
export class MediaOverlay {
  readonly #state: DiskState;
  readonly #options: Required<MediaOptions>;
  readonly #onFault: FaultListener;
  readonly #askedRequests = new Set<number>();
  readonly #askedSectors = new Set<number>();
  readonly #sources: OverlaySources;

  constructor(state: DiskState, options: Required<MediaOptions>, onFault: FaultListener, sources: OverlaySources = {}) {
    this.#state = state;
    this.#options = options;
    this.#onFault = onFault;
    this.#sources = sources;
  }

  /** Reads through the faults. @throws DeviceError EIO */
  read(sector: number, target: Uint8Array): void {
    const state = this.#state;
    const bytes = state.profile.sectorBytes;
    const sectorCount = target.length / bytes;
    this.#checkHung();
    if (!this.#askedRequests.has(sector)) {
      this.#askedRequests.add(sector);
      const fault = this.#choose(this.#readAlternatives(sector, sectorCount));
      if (fault?.kind === 'read-error' || fault?.kind === 'hung-request') throw errorOf(fault);
    }
    const moved = state.media.active.find(
      ({ fault }) => fault.kind === 'misdirected-read' && fault.sector === sector && fault.sectorCount === sectorCount,
    );
    state.read(moved?.fault.detail ?? sector, target);
    if (moved !== undefined) return;
    for (let i = 0; i < sectorCount; i++) {
      this.#askSector(sector + i, target.subarray(i * bytes, (i + 1) * bytes));
      for (const one of state.media.active) this.#spoil(one, sector + i, target, i * bytes);
    }
  }

  /** To be asked before a write is carried out. @throws DeviceError EIO where the disk hangs */
  write(sector: number, sectorCount: number): WritePlan {
    this.#checkHung();
    const fault = this.#choose(this.#writeAlternatives(sector, sectorCount));
    switch (fault?.kind) {
      case 'lost-write':
        return { sector, sectorCount: 0, error: undefined };
      case 'misdirected-write':
        return { sector: fault.detail, sectorCount, error: undefined };
      case 'write-error':
        return { sector, sectorCount: fault.detail, error: errorOf(fault) };
      case 'hung-request':
        return { sector, sectorCount, error: errorOf(fault) };
      default:
        return { sector, sectorCount, error: undefined };
    }
  }

  /** To be asked before a flush is carried out. @throws DeviceError EIO where the disk hangs */
  flush(): FlushPlan {
    this.#checkHung();
    const fault = this.#choose(
      this.#alternatives(0, 0, ['lying-flush', 'flush-error', 'hung-request', 'latency-spike']),
    );
    switch (fault?.kind) {
      case 'lying-flush':
        return { outcome: 'lie' };
      case 'flush-error':
        return { outcome: 'abandon', error: errorOf(fault) };
      case 'hung-request':
        return { outcome: 'hang', error: errorOf(fault) };
      default:
        return DONE;
    }
  }

  #checkHung(): void {
    if (this.#state.media.isHung) throw new DeviceError('EIO', 'a request timed out, and the disk answers no more');
  }

  #choose(alternatives: readonly MediaFault[]): MediaFault | undefined {
    if (alternatives.length === 0) return undefined;
    const chosen =
      alternatives[(this.#sources.choices ?? this.#state.choices).choose(alternatives.length + 1, FAULT_LABEL) - 1];
    if (chosen === undefined) return undefined;
    const { fired, active } = this.#state.media;
    const media: MediaState = {
      fired: fired + 1,
      active: LASTING.includes(chosen.kind) ? [...active, { fault: chosen, version: this.#versionOf(chosen) }] : active,
      isHung: chosen.kind === 'hung-request',
    };
    this.#onFault(chosen, media);
    this.#state.media = media;
    return chosen;
  }

  #versionOf({ sector }: MediaFault): number {
    return this.#state.topVersion(sector);
  }

  /** One of each of these kinds that may fire. */
  #alternatives(sector: number, sectorCount: number, kinds: readonly MediaFaultKind[]): MediaFault[] {
    const { maxFaults, zone } = this.#options;
    if (this.#state.media.fired >= maxFaults) return [];
    const isFlush = sectorCount === 0;
    if (!isFlush && (sector < zone.firstSector || sector >= zone.firstSector + zone.sectorCount)) return [];
    return kinds
      .filter((kind) => this.#options.kinds.includes(kind))
      .map((kind) => ({ kind, sector, sectorCount, detail: 0 }));
  }

  #readAlternatives(sector: number, sectorCount: number): MediaFault[] {
    if (this.#isBlank(sector, sectorCount)) return [];
    const simple = this.#alternatives(sector, sectorCount, ['read-error', 'hung-request', 'latency-spike']);
    return [...simple, ...this.#misdirected('misdirected-read', sector, sectorCount)];
  }

  #writeAlternatives(sector: number, sectorCount: number): MediaFault[] {
    const simple = this.#alternatives(sector, sectorCount, ['lost-write', 'hung-request', 'latency-spike']);
    const parts = [0, ...(sectorCount > 1 ? [1] : []), sectorCount];
    const failed = this.#alternatives(sector, sectorCount, ['write-error']).flatMap((fault) =>
      parts.map((detail) => ({ ...fault, detail })),
    );
    return [...simple, ...failed, ...this.#misdirected('misdirected-write', sector, sectorCount)];
  }

  /** One bit of the address is wrong. */
  #misdirected(kind: MediaFaultKind, sector: number, sectorCount: number): MediaFault[] {
    const [fault] = this.#alternatives(sector, sectorCount, [kind]);
    if (fault === undefined) return [];
    const found: MediaFault[] = [];
    for (let bit = 1; bit < this.#state.sectorCount; bit *= 2) {
      const detail = Math.floor(sector / bit) % 2 === 0 ? sector + bit : sector - bit;
      if (detail + sectorCount <= this.#state.sectorCount) found.push({ ...fault, detail });
    }
    return found;
  }

  #isBlank(sector: number, sectorCount: number): boolean {
    for (let i = 0; i < sectorCount; i++) if (!this.#state.isBlank(sector + i)) return false;
    return true;
  }

  #askSector(sector: number, content: Uint8Array): void {
    if (this.#askedSectors.has(sector) || this.#state.isBlank(sector)) return;
    this.#askedSectors.add(sector);
    const faults = this.#alternatives(sector, 1, ['latent-error']);
    const [stale] = this.#alternatives(sector, 1, ['stale-read']);
    if (stale !== undefined && this.#differsFromPrevious(sector, content)) faults.push(stale);
    const [rot] = this.#alternatives(sector, 1, ['bit-rot']);
    const { rotStepBytes } = this.#options;
    for (let at = 0; rot !== undefined && at < content.length; at += rotStepBytes) {
      // Another bit in each place, so that not all of them hit the same one of a field.
      faults.push({ ...rot, detail: at * 8 + ((at / rotStepBytes + sector) % 8) });
    }
    this.#choose(faults);
  }

  #previous(sector: number): Uint8Array | undefined {
    const { previous } = this.#sources;
    return previous === undefined ? this.#state.previousBytes(sector) : previous(sector);
  }

  #differsFromPrevious(sector: number, content: Uint8Array): boolean {
    const previous = this.#previous(sector);
    return previous !== undefined && Buffer.compare(previous, content) !== 0;
  }

  /** Lets a fault that is at work have its effect on a sector that was read. */
  #spoil({ fault, version }: ActiveFault, sector: number, target: Uint8Array, at: number): void {
    if (fault.sector !== sector || version !== this.#state.topVersion(sector)) return;
    if (fault.kind === 'latent-error') throw errorOf(fault);
    if (fault.kind === 'bit-rot') target[at + (fault.detail >>> 3)]! ^= 1 << (fault.detail & 7);
    if (fault.kind === 'stale-read') target.set(this.#previous(sector)!, at);
  }
}

/** Kinds that stay at work after they fired. */
const LASTING: readonly MediaFaultKind[] = ['bit-rot', 'latent-error', 'stale-read', 'misdirected-read'];

function errorOf(fault: MediaFault): DeviceError {
  return new DeviceError('EIO', describeFault(fault));
}
