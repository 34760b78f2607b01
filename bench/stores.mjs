import { closeSync, constants, fdatasyncSync, fsyncSync, openSync, readSync, statSync, writeSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { FileDevice } from '../dist/blockdev/index.js';
import { format, GroupCommit, open as openStateFs } from '../dist/statefs/index.js';

/**
 * One store under measurement. Each keeps the value of a key as opaque bytes, and is set so that a put that has
 * returned (or whose promise is fulfilled) survives a power cut.
 *
 * @typedef {object} Store
 * @property {(key: string, payload: Uint8Array) => void | Promise<void>} put durable when done
 * @property {(key: string) => Uint8Array | Promise<Uint8Array>} get
 * @property {(puts: [key: string, payload: Uint8Array][]) => void | Promise<void>} [transaction] all or none, durable
 *   when done
 * @property {(key: string, payload: Uint8Array) => Promise<void>} [putBesides] fulfilled when durable; puts that are
 *   under way together share a flush
 * @property {() => void | Promise<void>} close
 */

/**
 * What opens a store in an empty folder.
 * @typedef {object} Contestant
 * @property {string} name
 * @property {string} settings
 * @property {(folder: string, load: { keys: string[], payloadBytes: number }) => Promise<Store>} open
 */

const MIB = 1024 * 1024;
/** Of the partition. Its two regions are large beside what lives in them, as the log of a database is. */
const IMAGE_BYTES = 256 * MIB;

/** @param {'checksummed' | 'ordered'} commit @returns {Contestant} */
function stateFs(commit) {
  return {
    name: `statefs ${commit}`,
    settings: `putAtomic, commit: '${commit}', FileDevice, SHA-256 and CRC32-C of everything`,
    open: async (folder) => {
      const device = FileDevice.create(join(folder, 'state.img'), { sectorCount: IMAGE_BYTES / 512 });
      format(device);
      const store = openStateFs(device, { commit });
      const commits = new GroupCommit(store);
      return {
        put: (key, payload) => store.putAtomic(key, payload),
        get: (key) => store.get(key),
        transaction: (puts) => {
          store.transaction((tx) => {
            for (const [key, payload] of puts) tx.put(key, payload);
          });
        },
        putBesides: (key, payload) => commits.commit((tx) => tx.put(key, payload)),
        close: () => {
          store.close();
          device.close();
        },
      };
    },
  };
}

/** SQLite's own default for a checkpoint, in pages of 4 KiB. */
const WAL_CHECKPOINT_PAGES = 1000;

/** @type {Contestant} */
const sqlite = {
  name: 'better-sqlite3',
  settings: 'journal_mode=WAL, synchronous=FULL, prepared INSERT OR REPLACE, one transaction a put',
  open: async (folder, { keys, payloadBytes }) => {
    const { default: Database } = await import('better-sqlite3');
    const db = new Database(join(folder, 'state.sqlite'));
    db.pragma('journal_mode = WAL');
    db.pragma(`wal_autocheckpoint = ${WAL_CHECKPOINT_PAGES}`);
    db.exec('CREATE TABLE state (key TEXT PRIMARY KEY, value BLOB NOT NULL)');
    const insert = db.prepare('INSERT OR REPLACE INTO state (key, value) VALUES (?, ?)');
    const select = db.prepare('SELECT value FROM state WHERE key = ?').pluck();
    fillWal(db, insert, join(folder, 'state.sqlite-wal'), keys, payloadBytes);
    db.pragma('synchronous = FULL');
    if (db.pragma('synchronous', { simple: true }) !== 2) throw new Error('synchronous=FULL was not taken');
    const insertAll = db.transaction((puts) => {
      for (const [key, payload] of puts) insert.run(key, payload);
    });
    const together = new Together(insertAll);
    return {
      put: (key, payload) => void insert.run(key, payload),
      get: (key) => select.get(key),
      transaction: (puts) => insertAll(puts),
      putBesides: (key, payload) => together.add(key, payload),
      close: () => void db.close(),
    };
  },
};

/** Group commit by hand, for a store that has none: what arrives in one turn of the event loop is one transaction. */
class Together {
  #insertAll;
  #waiting = [];

  constructor(insertAll) {
    this.#insertAll = insertAll;
  }

  add(key, payload) {
    return new Promise((resolve, reject) => {
      // The caller goes on to use its buffer.
      if (this.#waiting.push({ put: [key, payload.slice()], resolve, reject }) === 1)
        setImmediate(() => this.#commit());
    });
  }

  #commit() {
    const waiting = this.#waiting;
    this.#waiting = [];
    try {
      this.#insertAll(waiting.map(({ put }) => put));
      for (const { resolve } of waiting) resolve();
    } catch (error) {
      for (const { reject } of waiting) reject(error);
    }
  }
}

/** Lets the log reach its full size once: from then on it is overwritten, which spares each sync the file's growth. */
function fillWal(db, insert, walPath, keys, payloadBytes) {
  db.pragma('synchronous = OFF');
  const payload = new Uint8Array(payloadBytes);
  for (let i = 0; i < keys.length || statSync(walPath).size < WAL_CHECKPOINT_PAGES * 4096; i++) {
    insert.run(keys[i % keys.length], payload);
  }
  db.pragma('wal_checkpoint(RESTART)');
}

/** @type {Contestant} */
const lmdb = {
  name: 'lmdb',
  settings: 'putSync, noSync: false, overlappingSync: false, no cache, no compression, binary values',
  open: async (folder) => {
    const { open } = await import('lmdb');
    const db = open({
      path: join(folder, 'state.lmdb'),
      encoding: 'binary',
      noSync: false,
      overlappingSync: false,
      cache: false,
      compression: false,
      maxDbs: 1,
    });
    return {
      put: (key, payload) => {
        if (!db.putSync(key, payload)) throw new Error(`lmdb: put of ${key} was not done`);
      },
      get: (key) => db.get(key),
      transaction: (puts) => {
        db.transactionSync(() => {
          for (const [key, payload] of puts) db.putSync(key, payload);
        });
      },
      putBesides: async (key, payload) => {
        if (!(await db.put(key, payload))) throw new Error(`lmdb: put of ${key} was not done`);
      },
      close: () => db.close(),
    };
  },
};

/** @type {Contestant} */
const level = {
  name: 'classic-level',
  settings: 'put with sync: true, buffer values; its API is asynchronous, so a put includes a thread hop',
  open: async (folder) => {
    const { ClassicLevel } = await import('classic-level');
    const db = new ClassicLevel(join(folder, 'state.level'), { valueEncoding: 'view' });
    await db.open();
    const options = { sync: true };
    return {
      put: (key, payload) => db.put(key, payload, options),
      get: (key) => db.get(key),
      transaction: (puts) =>
        db.batch(
          puts.map(([key, value]) => ({ type: 'put', key, value })),
          options,
        ),
      putBesides: (key, payload) => db.put(key, payload, options),
      close: () => db.close(),
    };
  },
};

/** The least that a durable put can be: no checksum, no log, no atomicity. @type {Contestant} */
const floor = {
  name: 'pwrite + fdatasync',
  settings: 'preallocated file, one place a key, no atomicity, no checksum: what the file system itself costs',
  open: async (folder, { keys, payloadBytes }) => {
    const placeBytes = Math.ceil(payloadBytes / 4096) * 4096;
    const fd = openSync(join(folder, 'floor.img'), constants.O_RDWR | constants.O_CREAT | constants.O_EXCL);
    const zeros = new Uint8Array(placeBytes);
    keys.forEach((_, i) => {
      writeWhole(fd, zeros, i * placeBytes);
    });
    fsyncSync(fd);
    const placeOf = new Map(keys.map((key, i) => [key, i * placeBytes]));
    return {
      put: (key, payload) => {
        writeWhole(fd, payload, placeOf.get(key));
        fdatasyncSync(fd);
      },
      get: (key) => {
        const target = new Uint8Array(payloadBytes);
        readSync(fd, target, 0, payloadBytes, placeOf.get(key));
        return target;
      },
      close: () => closeSync(fd),
    };
  },
};

function writeWhole(fd, bytes, position) {
  const written = writeSync(fd, bytes, 0, bytes.length, position);
  if (written !== bytes.length) throw new Error(`pwrite: expected ${bytes.length} bytes to be written, got ${written}`);
}

/** @type {Contestant[]} */
export const contestants = [stateFs('checksummed'), stateFs('ordered'), sqlite, lmdb, level, floor];

/** Opens a contestant in a folder of its own under `parent`. @returns {Promise<Store>} */
export async function openIn(contestant, parent, load) {
  const folder = join(parent, contestant.name.replaceAll(/[^a-z0-9]+/g, '-'));
  await mkdir(folder);
  return contestant.open(folder, load);
}
