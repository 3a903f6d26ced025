/* One sender and one receiver of libsrtp2 behind a pipe, for tests/vectors/libsrtp2.rs.
 *
 * A request is: operation, length (16 bits, little-endian), bytes. A reply is: srtp_err_status_t, length, bytes.
 * 'k' makes both ends anew: suite, size of the MKI, MKI, master key and salt. 'p' and 'u' protect and unprotect RTP, 'P'
 * and 'U' RTCP. 'f' has no reply of its own: all that there are leave. The program ends with its input. */

#include <srtp2/srtp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As many packets as ringdown tells apart: wire::srtp::replay. */
#define WINDOW_PACKETS 448
#define ROOM (65535 + SRTP_MAX_TRAILER_LEN + SRTP_MAX_MKI_LEN)

static uint8_t mki[SRTP_MAX_MKI_LEN], key[SRTP_MAX_KEY_LEN];
static unsigned mki_bytes;
static srtp_t sender, receiver;

static void read_all(void *to, size_t length)
{
    if (length && fread(to, length, 1, stdin) != 1)
        exit(feof(stdin) ? 0 : 1);
}

static void reply(int status, const void *bytes, int length)
{
    if (status)
        length = 0;
    uint8_t head[3] = { status, length & 0xff, length >> 8 };
    if (fwrite(head, 3, 1, stdout) != 1 || (length && fwrite(bytes, length, 1, stdout) != 1))
        exit(1);
}

/* In the order of ringdown's Suite::ALL. RFC 3711 section 5.2: RTCP has the long tag. */
static int set_suite(srtp_policy_t *policy, int suite)
{
    switch (suite) {
    case 0:
        srtp_crypto_policy_set_aes_cm_128_hmac_sha1_32(&policy->rtp);
        srtp_crypto_policy_set_aes_cm_128_hmac_sha1_80(&policy->rtcp);
        return 1;
    case 1:
        srtp_crypto_policy_set_aes_cm_128_hmac_sha1_80(&policy->rtp);
        break;
    case 2:
        srtp_crypto_policy_set_aes_cm_256_hmac_sha1_32(&policy->rtp);
        srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80(&policy->rtcp);
        return 1;
    case 3:
        srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80(&policy->rtp);
        break;
    case 4:
        srtp_crypto_policy_set_aes_gcm_128_16_auth(&policy->rtp);
        break;
    case 5:
        srtp_crypto_policy_set_aes_gcm_256_16_auth(&policy->rtp);
        break;
    default:
        return 0;
    }
    policy->rtcp = policy->rtp;
    return 1;
}

static int start(const uint8_t *bytes, int length)
{
    srtp_master_key_t master = { key, mki, 0 };
    srtp_master_key_t *masters[] = { &master };
    srtp_policy_t policy;
    memset(&policy, 0, sizeof policy);
    if (length < 2 || !set_suite(&policy, bytes[0]))
        return srtp_err_status_bad_param;
    mki_bytes = bytes[1];
    if (mki_bytes > sizeof mki || length != 2 + (int)mki_bytes + policy.rtp.cipher_key_len)
        return srtp_err_status_bad_param;
    memcpy(mki, bytes + 2, mki_bytes);
    memcpy(key, bytes + 2 + mki_bytes, policy.rtp.cipher_key_len);
    master.mki_size = mki_bytes;
    policy.keys = masters;
    policy.num_master_keys = 1;
    policy.window_size = WINDOW_PACKETS;
    if (sender)
        srtp_dealloc(sender);
    if (receiver)
        srtp_dealloc(receiver);
    sender = receiver = NULL;
    policy.ssrc.type = ssrc_any_outbound;
    int status = srtp_create(&sender, &policy);
    if (status)
        return status;
    policy.ssrc.type = ssrc_any_inbound;
    return srtp_create(&receiver, &policy);
}

int main(void)
{
    static uint32_t aligned[ROOM / 4 + 1];
    uint8_t *bytes = (uint8_t *)aligned, head[3];
    if (srtp_init()) {
        fprintf(stderr, "srtp_init fails\n");
        return 1;
    }
    for (;;) {
        read_all(head, sizeof head);
        int length = head[1] | head[2] << 8, status = srtp_err_status_bad_param;
        read_all(bytes, length);
        switch (head[0]) {
        case 'k':
            status = start(bytes, length);
            length = 0;
            break;
        case 'p':
            status = srtp_protect_mki(sender, bytes, &length, mki_bytes != 0, 0);
            break;
        case 'u':
            status = srtp_unprotect_mki(receiver, bytes, &length, mki_bytes != 0);
            break;
        case 'P':
            status = srtp_protect_rtcp_mki(sender, bytes, &length, mki_bytes != 0, 0);
            break;
        case 'U':
            status = srtp_unprotect_rtcp_mki(receiver, bytes, &length, mki_bytes != 0);
            break;
        case 'f':
            if (fflush(stdout))
                return 1;
            continue;
        }
        reply(status, bytes, length);
    }
}
