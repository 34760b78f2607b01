/** With `POWERCUT_SEEDS=fixed` every property draws the same cases each time, so that a gate gives one verdict. */
if (process.env['POWERCUT_SEEDS'] === 'fixed') {
  const { default: fc } = await import('fast-check');
  fc.configureGlobal({ seed: 1 });
}
