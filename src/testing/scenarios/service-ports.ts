import type { KeyValueContent, KeyValueOp, Run } from '../../explore/index.ts';
import type { StateFs } from '../../statefs/index.ts';
import type { StatePort } from '../../statefsd/index.ts';

/** A store as a service sees it, with each put told to the explorer. */
export class RecordingPort implements StatePort {
  readonly #store: () => StateFs;
  readonly #run: Run<KeyValueOp>;
  readonly #isDurable: boolean;

  /** @param isDurable false, for tests of the tests: puts are told done before they are durable */
  constructor(store: () => StateFs, run: Run<KeyValueOp>, isDurable: boolean) {
    this.#store = store;
    this.#run = run;
    this.#isDurable = isDurable;
  }

  get(path: string): Uint8Array {
    return this.#store().get(path);
  }

  putAtomic(path: string, payload: Uint8Array, meta: { readonly purpose: string }): void {
    // A copy: the service may wipe its own.
    const op: KeyValueOp = { kind: 'put', key: path, value: payload.slice() };
    this.#run.begin(op);
    if (this.#isDurable) this.#store().putAtomic(path, payload, { meta });
    else this.#store().put(path, payload, { meta });
    this.#run.acknowledge(op);
  }
}

/** For tests of the tests: every value is stored as two, one after the other, as a careless service would. */
export class TwoKeysPort implements StatePort {
  readonly #port: StatePort;

  constructor(port: StatePort) {
    this.#port = port;
  }

  async get(path: string): Promise<Uint8Array> {
    const [first, second] = halvesOf(path);
    return joined([await this.#port.get(first), await this.#port.get(second)]);
  }

  async putAtomic(path: string, payload: Uint8Array, meta: { readonly purpose: string }): Promise<void> {
    const middle = payload.length >> 1;
    const [first, second] = halvesOf(path);
    await this.#port.putAtomic(first, payload.subarray(0, middle), meta);
    await this.#port.putAtomic(second, payload.subarray(middle), meta);
  }
}

/** What a service finds at `path` in a content, or undefined. */
export function valueIn(content: KeyValueContent, path: string, isInTwoKeys: boolean): Uint8Array | undefined {
  if (!isInTwoKeys) return content.get(path);
  const halves = halvesOf(path).map((half) => content.get(half));
  const found = halves.filter((half) => half !== undefined);
  return found.length === 0 ? undefined : joined(found);
}

function halvesOf(path: string): [string, string] {
  return [`${path}.0`, `${path}.1`];
}

function joined(halves: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(halves));
}
