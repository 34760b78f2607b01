import type { StoreRules } from '../../statefs/index.ts';
import { mediaBreaks } from '../scenarios/media.ts';
import { brokenRules } from '../scenarios/variants.ts';

/** Stores without a rule: those that a power cut needs, and those that only a bad medium does. */
export const fuzzBreaks: Readonly<Record<string, { readonly what: string; readonly rules: StoreRules }>> = {
  ...brokenRules,
  ...mediaBreaks,
};
