/** apt's two ways of writing a source are read as apt reads them. */
import t from 'tap';
import { oneLineSources, stanzaSources } from '../../cli/set-up/debian-package.ts';

t.test('one-line sources', async (t) => {
  const text = [
    '# deb http://commented.example/debian bookworm main',
    'deb http://mirror.example/debian bookworm main contrib # trailing words',
    'deb-src http://mirror.example/debian bookworm main',
    'deb [arch=amd64 signed-by=/usr/share/keyrings/own.gpg] https://other.example/debian trixie main',
  ].join('\n');
  t.strictSame(oneLineSources(text), [
    { uri: 'http://mirror.example/debian', suites: ['bookworm'], components: ['main', 'contrib'] },
    {
      uri: 'https://other.example/debian',
      suites: ['trixie'],
      components: ['main'],
      signedBy: '/usr/share/keyrings/own.gpg',
    },
  ]);
});

t.test('deb822 stanzas', async (t) => {
  const text = [
    'Types: deb',
    '# a comment between fields',
    'URIs: http://mirror.example/debian http://second.example/debian',
    'Suites: bookworm bookworm-updates',
    'Components: main',
    'Signed-By:',
    ' -----BEGIN PGP PUBLIC KEY BLOCK-----',
    ' .',
    ' mQINBF',
    ' -----END PGP PUBLIC KEY BLOCK-----',
    '',
    'Types: deb',
    'Enabled: no',
    'URIs: http://switched-off.example/debian',
    'Suites: bookworm',
    'Components: main',
    '',
    'Types: deb-src',
    'URIs: http://sources.example/debian',
    'Suites: bookworm',
    'Components: main',
  ].join('\n');
  const sources = stanzaSources(text);
  t.equal(sources.length, 1, 'a stanza that is switched off, or of sources only, is none of ours');
  t.strictSame(sources[0]?.suites, ['bookworm', 'bookworm-updates']);
  t.equal(sources[0]?.uri, 'http://mirror.example/debian');
  t.match(sources[0]?.signedBy, /BEGIN PGP[^]*mQINBF[^]*END PGP/, 'a key within the file is taken over whole');
});
