import { BaseSequencer } from 'vitest/node';
import base from '../vitest.config.ts';
import { FOLDERS } from './tests.mjs';

const folder = FOLDERS[process.env.MUTATION_FOLDER];
if (folder === undefined) throw new Error('mutation: expected a folder of sources, see npm run mutants');
const tests = process.env.MUTATION_QUICK === '1' ? folder.quick : [...folder.quick, ...folder.slow];

/** The order of tests.mjs. */
class AsListed extends BaseSequencer {
  sort(files) {
    const place = ({ moduleId }) => tests.findIndex((test) => moduleId.endsWith(test));
    return [...files].sort((a, b) => place(a) - place(b));
  }
}

export default {
  ...base,
  test: {
    ...base.test,
    include: tests,
    setupFiles: ['mutation/setup.mjs'],
    sequence: { sequencer: AsListed },
    reporters: ['dot'],
  },
};
