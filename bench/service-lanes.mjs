import { fork } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FileDevice, systemFileIo } from '../dist/blockdev/index.js';
import { format, open } from '../dist/statefs/index.js';
import {
  Authority,
  checkPolicy,
  inProcess,
  StateFsClient,
  StateFsService,
  unixSocket,
} from '../dist/statefsd/index.js';

/** Room for all rounds. */
const IMAGE_BYTES = 256 * 1024 * 1024;
const SUBJECT = 'bench';
const SERVER = fileURLToPath(new URL('service-server.mjs', import.meta.url));

/** A new store in a file, whose flushes are counted. */
function storeOn(path) {
  let flushes = 0;
  const io = {
    ...systemFileIo,
    syncData: (fd) => {
      flushes++;
      systemFileIo.syncData(fd);
    },
  };
  const device = FileDevice.create(path, { sectorCount: IMAGE_BYTES / 512, io });
  format(device);
  const store = open(device);
  const close = () => {
    store.close();
    device.close();
  };
  return { store, flushCount: () => flushes, close };
}

/** The service on such a store, with a policy of one subject that may do everything. */
export function serviceOn(path) {
  const { store, flushCount, close } = storeOn(path);
  const operations = ['put_atomic', 'put', 'get', 'delete', 'list'];
  const rules = [{ subject: SUBJECT, operations, path: '/state/', effect: 'allow' }];
  const authority = new Authority(checkPolicy({ subjects: [SUBJECT], rules }));
  return { service: new StateFsService({ store, authority }), flushCount, close };
}

/**
 * One way to a store under measurement.
 * @typedef {object} Lane
 * @property {string} name
 * @property {number} writers how many puts are under way at a time
 * @property {(writer: number, key: string, payload: Uint8Array) => unknown} put
 * @property {() => number | Promise<number>} flushCount
 * @property {() => void | Promise<void>} close
 */

/** The store itself, called directly. @returns {Lane} */
function direct(folder) {
  const { store, flushCount, close } = storeOn(join(folder, 'direct.img'));
  return {
    name: 'store, called directly',
    writers: 1,
    put: (_, key, payload) => store.putAtomic(key, payload),
    flushCount,
    close,
  };
}

/** Client and service in one process. @returns {Lane} */
function together(folder, writers) {
  const { service, flushCount, close } = serviceOn(join(folder, `together-${writers}.img`));
  const clients = clientsOf(writers, () => inProcess(service, SUBJECT));
  return {
    name: 'client and service, one process',
    writers,
    put: (writer, key, payload) => clients[writer].putAtomic(key, payload),
    flushCount,
    close: () => {
      for (const client of clients) client.close();
      service.stop();
      close();
    },
  };
}

/** A client here, the server in another process, a socket between them. @returns {Promise<Lane>} */
async function apart(folder, writers) {
  const sockets = join(folder, `s${writers}`);
  mkdirSync(sockets, { mode: 0o700 });
  const child = fork(SERVER, [join(folder, `apart-${writers}.img`), sockets]);
  const next = () => new Promise((resolve) => child.once('message', resolve));
  await next();
  const clients = clientsOf(writers, () => unixSocket(join(sockets, `${SUBJECT}.sock`)));
  return {
    name: 'over a Unix socket',
    writers,
    put: (writer, key, payload) => clients[writer].putAtomic(key, payload),
    flushCount: async () => {
      const told = next();
      child.send('flushes');
      return (await told).flushes;
    },
    close: async () => {
      for (const client of clients) client.close();
      const exited = new Promise((resolve) => child.once('exit', resolve));
      child.disconnect();
      await exited;
    },
  };
}

function clientsOf(count, connectorOf) {
  return Array.from({ length: count }, () => new StateFsClient({ connect: connectorOf() }));
}

/** @returns {Promise<Lane[]>} the first is what the others are compared with */
export async function openLanes(folder, manyWriters) {
  return [
    direct(folder),
    together(folder, 1),
    await apart(folder, 1),
    together(folder, manyWriters),
    await apart(folder, manyWriters),
  ];
}
