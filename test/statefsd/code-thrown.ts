import { codeOf } from '../../src/core/index.ts';

/** The code of what `run` throws; `none` where it throws nothing, undefined for an error without a code. */
export function codeThrown(run: () => unknown): string | undefined {
  try {
    run();
    return 'none';
  } catch (error) {
    return codeOf(error);
  }
}

/** The same of a promise. */
export async function codeRejected(run: () => Promise<unknown>): Promise<string | undefined> {
  try {
    await run();
    return 'none';
  } catch (error) {
    return codeOf(error);
  }
}
