import {
  activate,
  type BootState,
  beginUpdate,
  bootAttempt,
  confirm,
  decodeBootState,
  encodeBootState,
  initialState,
  reject,
  type SlotName,
} from './boot-state.ts';
import { getIfThere, OneAtATime, type StatePort } from './state-port.ts';

/** Where the boot loader finds the record. Only `updated` may write it. */
export const BOOT_CONTROL_PATH = '/state/boot/bootctl';

const DEFAULT_TRIES = 3;

/**
 * A/B boot control: which of two system images is started, how often an update is tried, and when it is given up. The
 * rules are the pure functions of boot-state.ts; each change is one atomic put, so at no cut are there two choices or none.
 * Nothing is remembered between calls: every one reads the record.
 */
export class Updated {
  readonly #store: StatePort;
  readonly #turn = new OneAtATime();

  constructor(store: StatePort) {
    this.#store = store;
  }

  /**
   * The state; where there is none, the one of a new device with a good image in `factorySlot`.
   * @throws StateFsError EINTEGRITY for a record that is damaged
   */
  open(factorySlot: SlotName = 'a'): Promise<BootState> {
    return this.#turn.run(async () => {
      const record = await getIfThere(this.#store, BOOT_CONTROL_PATH);
      if (record !== undefined) return decodeBootState(record);
      return await this.#save(initialState(factorySlot), 'factory');
    });
  }

  /** Makes the slot that is not in use unbootable, so that an image can be written into it. @returns that slot */
  beginUpdate(): Promise<SlotName> {
    return this.#change('begin update', (state) => {
      const { state: next, target } = beginUpdate(state);
      return [next, target];
    });
  }

  /** The image is written: it is started next, `tries` times at most. */
  activate(tries: number = DEFAULT_TRIES): Promise<BootState> {
    return this.#change('activate', (state) => {
      const next = activate(state, tries);
      return [next, next];
    });
  }

  /** The device starts. @returns the slot to start; that it was tried is durable */
  boot(): Promise<SlotName> {
    return this.#change('boot', (state) => {
      const { state: next, slot } = bootAttempt(state);
      return [next, slot];
    });
  }

  /** The image in `slot` runs and is well. */
  confirm(slot: SlotName): Promise<BootState> {
    return this.#change('confirm', (state) => {
      const next = confirm(state, slot);
      return [next, next];
    });
  }

  /** The image in `slot` runs and is not well. */
  reject(slot: SlotName): Promise<BootState> {
    return this.#change('reject', (state) => {
      const next = reject(state, slot);
      return [next, next];
    });
  }

  #change<T>(purpose: string, step: (state: BootState) => [next: BootState, result: T]): Promise<T> {
    return this.#turn.run(async () => {
      const state = decodeBootState(await this.#store.get(BOOT_CONTROL_PATH));
      const [next, result] = step(state);
      if (next !== state) await this.#save(next, purpose);
      return result;
    });
  }

  async #save(state: BootState, purpose: string): Promise<BootState> {
    await this.#store.putAtomic(BOOT_CONTROL_PATH, encodeBootState(state), { purpose: `boot control: ${purpose}` });
    return state;
  }
}
