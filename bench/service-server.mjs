/** The server of the benchmark, a process of its own: it serves a new image, and tells how often it flushed. */

import { UnixServer } from '../dist/statefsd/index.js';
import { serviceOn } from './service-lanes.mjs';

const [image, sockets] = process.argv.slice(2);
const { service, flushCount, close } = serviceOn(image);
const server = await UnixServer.listen(service, sockets);
process.on('message', () => process.send({ flushes: flushCount() }));
process.once('disconnect', async () => {
  await server.close();
  close();
});
process.send({ ready: true });
