// An OpenID Connect provider that is not ours: npm's certified oidc-provider, on loopback, with its own sign-in pages.
//
//   node oidc_provider.mjs '{"redirect_uri": "http://127.0.0.1/auth/op/callback", "port": 0}'
//
// It prints its issuer when it listens. Whoever signs in as NAME has the address NAME@example.org, which is verified
// unless the name begins with "unverified".

import { createServer } from 'node:http';
import { generateKeyPairSync } from 'node:crypto';
import Provider from 'oidc-provider';

const given = JSON.parse(process.argv[2] ?? '{}');
const key = (type, options, alg, kid) => ({
  ...generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }), alg, kid, use: 'sig',
});
const keys = [
  key('rsa', { modulusLength: 2048 }, 'RS256', `rsa-${process.pid}`),
  key('ec', { namedCurve: 'P-256' }, 'ES256', `ec-${process.pid}`),
  key('ed25519', {}, 'EdDSA', `ed-${process.pid}`),
];
const client = (id, more) => ({
  client_id: id,
  client_secret: 'a secret that only the tests know',
  redirect_uris: [given.redirect_uri],
  grant_types: ['authorization_code', 'refresh_token'],
  response_types: ['code'],
  ...more,
});

const server = createServer();
server.listen(given.port ?? 0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [
      client('shop'),
      client('shop-es256', { id_token_signed_response_alg: 'ES256' }),
      client('shop-eddsa', { id_token_signed_response_alg: 'EdDSA' }),
      client('shop-post', { token_endpoint_auth_method: 'client_secret_post' }),
      client('shop-public', { token_endpoint_auth_method: 'none', client_secret: undefined }),
    ],
    jwks: { keys },
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256', 'EdDSA'] },
    scopes: ['openid', 'offline_access', 'email', 'profile'],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'preferred_username'] },
    features: { devInteractions: { enabled: true }, revocation: { enabled: true } },
    pkce: { required: () => true },
    cookies: { keys: ['for the tests alone'] },
    issueRefreshToken: async (_ctx, oidcClient, code) => code.scopes.has('offline_access'),
    findAccount: (_ctx, id) => ({
      accountId: id,
      claims: () => ({
        sub: id,
        email: `${id}@example.org`,
        email_verified: !id.startsWith('unverified'),
        name: `${id} of the tests`,
        preferred_username: id,
      }),
    }),
  });
  server.on('request', provider.callback());
  console.log(`listening ${issuer}`);
});
