import { BOOT_CONTROL_PATH, decodeBootState, Updated } from '../../statefsd/index.ts';
import type { ServiceWorkload } from './service-scenario.ts';

/**
 * `updated` itself: an update that never comes up and is rolled back when its tries run out, one that is confirmed, and
 * one that says of itself that it is not well. The device comes up, at every cut, with one slot to start.
 */
export const updatedService: ServiceWorkload = {
  name: 'updated',
  description: 'the A/B boot control of updated: updates tried, rolled back, confirmed, rejected',
  sectorCount: 512,
  before: async (store) => void (await new Updated(store).open('a')),
  work: async (store, restart) => {
    const updated = new Updated(store);
    await updated.beginUpdate();
    await updated.activate(2);
    // It starts twice and never says that it is well; the third start is the old one's.
    for (let start = 0; start < 3; start++) {
      restart();
      await updated.boot();
    }
    await updated.beginUpdate();
    await updated.activate();
    await updated.confirm(await updated.boot());
    // The other slot's turn.
    await updated.beginUpdate();
    await updated.activate(1);
    await updated.reject(await updated.boot());
  },
  comeUp: async (store) => void (await new Updated(store).boot()),
  rule: (found) => {
    const record = found(BOOT_CONTROL_PATH);
    if (record === undefined) throw new Error(`${BOOT_CONTROL_PATH}: there is no record: the device can't boot`);
    // A record decodes only if it leaves exactly one choice.
    decodeBootState(record);
  },
};
