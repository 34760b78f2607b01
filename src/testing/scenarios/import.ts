import type { BlockDevice } from '../../blockdev/index.ts';
import { codeOf, messageOf, toHex, VirtualClock } from '../../core/index.ts';
import { sha256 } from '../../envelope/index.ts';
import type { Scenario } from '../../explore/index.ts';
import { exportStore, format, importStore, open, type StateFs } from '../../statefs/index.ts';

/** An import with a rule taken away. */
export const importBreaks: Readonly<Record<string, { readonly what: string }>> = {
  'import-early': { what: 'an import lets a store be seen before all of it is there' },
};

export interface ImportScenarioOptions {
  /** See `importBreaks`. */
  readonly broken?: string;
}

const SECTOR_COUNT = 512;
const CLOCK = new VirtualClock(1_700_000_000_000);
const META = { subject: 'import', purpose: 'scenario' };
const OLD_ID = new Uint8Array(16).fill(1);
const NEW_ID = new Uint8Array(16).fill(2);
const NO_STORE = 'no store';

/** The store that is exported and imported: short values, an empty one, one that stands outside the log. */
function fill(store: StateFs): StateFs {
  for (let i = 0; i < 4; i++) store.put(`/state/new/${i}`, new Uint8Array(10 * i).fill(i), { meta: META });
  store.put('/state/new/long', new Uint8Array(5000).fill(7), { meta: META });
  store.close();
  return store;
}

function storeOf(device: BlockDevice, storeId: Uint8Array): StateFs {
  format(device, { storeId });
  return open(device, { clock: CLOCK });
}

/** A store is imported onto a partition that holds another one. */
export function importScenario({ broken }: ImportScenarioOptions = {}): Scenario<string, string> {
  let imported: { readonly chunks: readonly Uint8Array[]; readonly content: string } | undefined;
  let before = '';
  return {
    name: 'import',
    description: 'an export is imported onto a partition that holds another store: all of it or no store',
    disk: { sectorCount: SECTOR_COUNT },
    format: (device) => {
      const source = fill(storeOf(device, NEW_ID));
      const opened = open(device, { clock: CLOCK, readOnly: true });
      imported = { chunks: [...exportStore(opened)].map((chunk) => chunk.slice()), content: contentOf(device) };
      source.close();
      const old = storeOf(device, OLD_ID);
      old.put('/state/old', new Uint8Array(100).fill(9));
      old.close();
      before = contentOf(device);
    },
    workload: (device, run) => {
      run.begin('import');
      importStore(device, imported?.chunks ?? [], {
        storeId: NEW_ID.map((byte) => byte + 1),
        clock: CLOCK,
        isHeld: broken === undefined,
      });
      run.acknowledge('import');
    },
    recover: contentOf,
    invariant: (found, history) => {
      const allowed = history.events.some(({ kind }) => kind === 'acknowledge')
        ? [imported?.content]
        : history.events.length === 0
          ? [before]
          : [before, NO_STORE, imported?.content];
      if (!allowed.includes(found)) throw new Error(`expected ${allowed.join(', or ')}; got ${found}`);
    },
  };
}

function contentOf(device: BlockDevice): string {
  let store: StateFs;
  try {
    store = open(device, { clock: CLOCK });
  } catch (error) {
    if (codeOf(error) === 'EINVAL' || messageOf(error).includes('both copies are unusable')) return NO_STORE;
    throw error;
  }
  return store
    .list()
    .map((key) => {
      const value = store.get(key);
      return `${key} ${value.length} bytes ${toHex(sha256(value)).slice(0, 16)}`;
    })
    .join('; ');
}
