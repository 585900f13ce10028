/** A few rounds of prove-kills.ts; `npm run prove` has the long run. */
import t from 'tap';
import { proveKills } from './prove-kills.ts';

t.test('a server that keeps dying loses nothing acknowledged and doubles nothing', { timeout: 120_000 }, async (t) => {
  const seed = Number(process.env['RECKON_SEED'] ?? Math.floor(Math.random() * 1_000_000));
  const report = await proveKills({ rounds: 8, seed });
  t.comment(JSON.stringify({ seed, ...report }));
  t.same(report.faults, []);
  t.ok(report.acknowledged > 100, 'there was a load');
  t.ok(report.refused > 10 && report.transactions > 10, 'with conflicts and transactions');
  t.equal(report.records, report.acknowledged + report.unknownStanding);
});
