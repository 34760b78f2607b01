import { closeSync, constants, fdatasyncSync, fsyncSync, openSync, readSync, statSync, writeSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { FileDevice } from '../dist/blockdev/index.js';
import { format, open as openStateFs } from '../dist/statefs/index.js';

/**
 * One store under measurement. Each keeps the value of a key as opaque bytes, and is set so that a put that has
 * returned (or whose promise is fulfilled) survives a power cut.
 *
 * @typedef {object} Store
 * @property {(key: string, payload: Uint8Array) => void | Promise<void>} put durable when done
 * @property {(key: string) => Uint8Array | Promise<Uint8Array>} get
 * @property {(putCount: number, payloadBytes: number) => void} [prepare] before a turn of so many puts, not measured
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
/** Per region; there are two. Room for a round of the largest puts. */
const REGION_BYTES = 48 * MIB;
/** What a put of statefs takes besides its payload, rounded up: log group, frame headers, alignment. */
const overheadBytes = (payloadBytes) => 16_384 + payloadBytes / 8;

/** @param {'checksummed' | 'ordered'} commit @returns {Contestant} */
function stateFs(commit) {
  return {
    name: `statefs ${commit}`,
    settings: `putAtomic, commit: '${commit}', FileDevice, SHA-256 and CRC32-C of everything`,
    open: async (folder) => {
      const device = FileDevice.create(join(folder, 'state.img'), { sectorCount: (2 * REGION_BYTES) / 512 });
      format(device);
      let store = openStateFs(device, { commit });
      return {
        put: (key, payload) => store.putAtomic(key, payload),
        get: (key) => store.get(key),
        // There is no compaction yet: a store without room for the turn is formatted anew.
        prepare: (putCount, payloadBytes) => {
          if (store.stats().freeBytes >= putCount * (payloadBytes + overheadBytes(payloadBytes))) return;
          store.close();
          format(device);
          store = openStateFs(device, { commit });
        },
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
    return {
      put: (key, payload) => void insert.run(key, payload),
      get: (key) => select.get(key),
      close: () => void db.close(),
    };
  },
};

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
